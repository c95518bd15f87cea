// oracle.mjs - next-token log-probabilities by llama.cpp, on the CPU, from token ids.
//
//   node oracle.mjs MODULES [--top K] [--kv F32|F16] < JOBS
//
// MODULES is a folder with node_modules/node-llama-cpp in it.  JOBS is a JSON list of
// {"model": "a.gguf", "ids": [...], "at": [n, ...]}: which model, which tokens (taken as they are,
// no BOS added), and after how many of them to look.  Prints one JSON line per job: a list with,
// for each n of "at", the K most probable tokens as [id, log-probability], best first.  A job with
// "embed": true is answered with one vector instead, the model's embedding of the ids.
// Log-probabilities are the log-softmax, in double, of the model's raw logits: no filter, no
// temperature.  Keys and values stay in f32 unless --kv says otherwise, and flash attention is off,
// so that what is rounded is only what the weight format asks for.
import {readFileSync} from "node:fs";
import {join} from "node:path";
import {parseArgs} from "node:util";
import {pathToFileURL} from "node:url";

const {values: options, positionals} = parseArgs({
    allowPositionals: true,
    options: {top: {type: "string", default: "64"}, kv: {type: "string", default: "F32"}}
});
const jobs = JSON.parse(readFileSync(0, "utf8"));
const entry = join(positionals[0], "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama} = await import(pathToFileURL(entry));

function ranked(logits) {
    let max = -Infinity, total = 0;
    for (const logit of logits.values()) max = Math.max(max, logit);
    for (const logit of logits.values()) total += Math.exp(logit - max);
    return [...logits]
        .sort((a, b) => b[1] - a[1] || a[0] - b[0])
        .slice(0, Number(options.top))
        .map(([id, logit]) => [id, logit - max - Math.log(total)]);
}

// As the library's own embedding context does it, but without flash attention, which rounds keys
// and values to f16.
async function embedding(model, ids) {
    const context = await model.createContext({
        contextSize: 256,
        batchSize: 256,
        threads: 1,
        flashAttention: false,
        experimentalKvCacheKeyType: options.kv,
        experimentalKvCacheValueType: options.kv,
        _embeddings: true
    });
    for await (const _ of context.getSequence().evaluate(ids, {_noSampling: true})) break;
    const vector = Array.from(context._ctx.getEmbedding(ids.length));
    await context.dispose();
    return vector;
}

async function answer(llama, job) {
    const model = await llama.loadModel({modelPath: job.model, gpuLayers: 0});
    if (job.embed) {
        const vector = await embedding(model, job.ids);
        await model.dispose();
        return vector;
    }
    const context = await model.createContext({
        contextSize: Math.max(256, job.ids.length + 1),
        threads: 1,
        flashAttention: false,
        experimentalKvCacheKeyType: options.kv,
        experimentalKvCacheValueType: options.kv
    });
    const wanted = new Set(job.at);
    const input = job.ids.map((id, i) =>
        wanted.has(i + 1) ? [id, {generateNext: {logits: true}}] : id);
    const outputs = await context.getSequence().controlledEvaluate(input);
    const result = job.at.map((n) => ranked(outputs[n - 1].next.logits));
    await context.dispose();
    await model.dispose();
    return result;
}

const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: 1});
for (const job of jobs) console.log(JSON.stringify(await answer(llama, job)));
process.exit(0); // the library's worker threads would keep the process
