// llama_vulkan.mjs - decode speed of llama.cpp's Vulkan backend, through node-llama-cpp.
//
//   node llama_vulkan.mjs MODULES MODEL TOKENS
//
// MODULES is a folder with node_modules/node-llama-cpp and its Vulkan build in it.  llama.cpp passes
// over Vulkan devices that are CPUs unless GGML_VK_VISIBLE_DEVICES names them.  Every layer goes to
// the device.  Tries both with and without flash attention, after a warm-up that compiles every
// pipeline, and prints {"device", "tokens_per_second"} of the faster one.
import {join} from "node:path";
import {pathToFileURL} from "node:url";

const [modules, modelPath, tokens] = process.argv.slice(2);
const entry = join(modules, "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama} = await import(pathToFileURL(entry));
const llama = await getLlama({gpu: "vulkan", build: "never", skipDownload: true, logLevel: "error", vramPadding: 0});
const [device] = await llama.getGpuDeviceNames();
if (device === undefined) throw new Error("llama.cpp sees no Vulkan device");
const model = await llama.loadModel(
    {modelPath, gpuLayers: 999, ignoreMemorySafetyChecks: true});

async function decode(sequence, n, from) {
    for (let i = 0; i < n; i++) {
        await sequence.controlledEvaluate([[(from + i) * 7 % 1000 + 3, {generateNext: {token: true}}]]);
    }
}

let best = 0;
for (const flashAttention of [false, true]) {
    const context = await model.createContext(
        {contextSize: 256, flashAttention, ignoreMemorySafetyChecks: true});
    const sequence = context.getSequence();
    await sequence.controlledEvaluate([1]);
    await decode(sequence, 2, 0);
    const begin = performance.now();
    await decode(sequence, Number(tokens), 2);
    best = Math.max(best, Number(tokens) * 1000 / (performance.now() - begin));
    await context.dispose();
}
console.log(JSON.stringify({device, tokens_per_second: best}));
process.exit(0); // the library's worker threads would keep the process
