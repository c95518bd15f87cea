// Hugging Face's own tokenizers library as a child process: one JSON object a line in and out.
//   {"tokenizer": "...", "texts": [...], "special": true}  ->  {"ids": [[...], ...]} or {"error": "..."}
// A text that the library refuses has null.  argv[2]: the folder of the package.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { Tokenizer } = createRequire(process.argv[2] + "/")("tokenizers");

async function encode(tokenizer, text, special) {
    try {
        return (await tokenizer.encode(text, null, { addSpecialTokens: special })).getIds();
    } catch {
        return null;
    }
}

for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    const answer = {};
    try {
        const tokenizer = Tokenizer.fromString(asked.tokenizer);
        answer.ids = [];
        for (const text of asked.texts) {
            answer.ids.push(await encode(tokenizer, text, asked.special));
        }
    } catch (e) {
        answer.error = String(e.message);
        delete answer.ids;
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
}
