"""How the models' own tokenizers cut text into words, written down independently of exo.

For each name in tokenizer.ggml.pre the expressions of the model's tokenizer.json, as its makers
spell them, run by Python's regex module; and on which texts llama.cpp is known to cut elsewhere.
"""

from __future__ import annotations

from typing import Callable

import regex

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN2 = (SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (f"{UPPER}*{LOWER}+{SHORT}?|{UPPER}+{LOWER}*{SHORT}?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
            r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KANA = "[一-龥぀-ゟ゠-ヿ]+"
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
DEEPSEEK_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅ"
    "Ὀ-Ὅὐ-ὗ\u1f59\u1f5b\u1f5dὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ"
    "\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲"
    "𐳀-𐳲𑢠-𑣟𞤀-𞥃")

RULES: dict[str, list[str]] = {
    "gpt2": [GPT2],
    "digits": [r"\p{N}", GPT2],
    "llama3": [LLAMA3],
    "qwen2": [QWEN2],
    "qwen35": [QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(
        r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")],
    "bailing": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|"
                r"\s*[\r\n]|\s+(?!\S)|\s+"],
    "ufakzeka": [QWEN2.removeprefix(SHORT + "|")],
    "seed": [SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|"
             r"\s+(?!\S)|\s+"],
    "exaone-moe": [SHORT + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|"
                   r" ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"],
    "jais2": [LLAMA3.removesuffix(r"|\s+(?!\S)|\s+") + "".join(
        rf"|\s{{{n}}}(?!\S)" for n in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2"))
        + r"|\s{1}"],
    "laguna": [r"[^\n]+|[\n]+", QWEN2],
    "minicpm5": [r"\p{N}{1,3}", QWEN2.replace(r"|\p{N}|", r"|\p{N}+|")],
    "o200k": [O200K],
    "tekken": [O200K.replace(SHORT + "?", "").replace("{1,3}", "")],
    "tiny-aya": [r"\d{1,3}(?=(?:\d{3})*\b)", O200K],
    "youtu": ["[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" + KANA, O200K.replace("{1,3}", "")],
    "kimi-k2": [r"[\p{Han}]+|" + O200K.replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]").replace("\n/", "\n")
                .replace("[\\r\\n/]*", "[\\r\\n]*")],
    "deepseek-llm": ["[\r\n]", rf"\s?[{DEEPSEEK_LETTERS}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
                     "[一-龥ࠀ-一가-퟿]+", r"\p{N}+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "deepseek3": [r"\p{N}{1,3}", KANA, DEEPSEEK],
    "spark": [r"\p{N}{1,3}", KANA, DEEPSEEK.replace(r"+[\r\n]*|\s*[\r\n]+", r"+|[\r\n]"), r"\p{N}"],
    "afmoe": [r"\P{N}*\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
              "[一-鿿㐀-䶿\uf900-\ufaff぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+", DEEPSEEK],
    "falcon": [r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "chameleon": ["<sentinel:[0-9]+>", "(?:IMGIMG)(?:(?:A|B|C|D|E|F|G|H|I){1,4})Z", "[\t\n]|    |  ",
                  r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", GPT2],
    "bloom": [BLOOM],
    "viking": [BLOOM, r"\p{N}"],
    "superbpe": [r"\p{N}+", r"(?=(?:\d{3})+(?!\d))"],
    "lines": [r"[^\n]+|[\n]+"],
    "white": [r"\S+"],
}

NAMES = {
    "gpt2": "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe "
            "modern-bert gigachat a.x-4.0 mellum mpt olmo jais exaone4 trillion granite-docling",
    "digits": "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
    "llama3": "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano "
              "smaug-bpe dbrx glm4 chatglm-bpe",
    "qwen2": "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2",
    "qwen35": "qwen35", "bailing": "bailingmoe bailingmoe2 llada-moe", "ufakzeka": "ufakzeka",
    "seed": "seed-coder", "exaone-moe": "exaone-moe", "jais2": "jais-2", "laguna": "laguna",
    "minicpm5": "minicpm5", "o200k": "gpt-4o llama4 kanana2 talkie minimax-m2 "
    "granite-embed-multi-97m", "tekken": "tekken", "tiny-aya": "tiny_aya cohere2moe",
    "youtu": "youtu", "kimi-k2": "kimi-k2", "deepseek-llm": "deepseek-llm",
    "deepseek-coder": "deepseek-coder", "deepseek3": "deepseek-v3 hunyuan-dense hy_v4 joyai-llm",
    "spark": "spark2_5", "afmoe": "afmoe", "falcon": "falcon", "default": "default",
    "chameleon": "chameleon", "bloom": "poro-chat bloom gpt3-finnish", "viking": "viking",
    "superbpe": "superbpe", "lines": "gemma4 granite-embed-multi-311m sarvam-moe",
    "white": "whitespace",
}
RULE_OF = {name: rule for rule, names in NAMES.items() for name in names.split()}
ESCAPED = {"gemma4", "granite-embed-multi-311m", "sarvam-moe"}
RAW = ESCAPED | {"whitespace"}
WHOLE_NEWLINES = {"gemma4", "granite-embed-multi-311m"}
WHOLE_WORDS = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
               "lfm2", "jina-v5-nano", "minicpm5", "youtu", "tekken", "granite-embed-multi-97m"}


def compiled(pattern: str) -> regex.Pattern:
    pattern = regex.sub(r"(?<!\\)\\s", r"\\p{White_Space}", pattern)
    pattern = regex.sub(r"(?<!\\)\\S", r"\\P{White_Space}", pattern)
    return regex.compile(pattern, regex.V1 if "&&" in pattern else regex.V0)


COMPILED = {rule: [compiled(p) for p in patterns] for rule, patterns in RULES.items()}


def cut(pattern: regex.Pattern, text: str) -> list[str]:
    """Matches and what stands between them."""
    pieces, done = [], 0
    for match in pattern.finditer(text):
        pieces += [text[done:match.start()], match.group()]
        done = match.end()
    return [p for p in [*pieces, text[done:]] if p]


def words(rule: str, text: str) -> list[str]:
    pieces = [text]
    for pattern in COMPILED[rule]:
        pieces = [word for p in pieces for word in cut(pattern, p)]
    return pieces


# ---- where llama.cpp cuts elsewhere ----

def matches(pattern: str) -> Callable[[str], bool]:
    search = regex.compile(pattern).search
    return lambda text: search(text) is not None


# Letters of other alphabets have no case to it, and marks are no letters.
CASELESS = r"[^\p{ASCII}\P{Lu}]|[^\p{ASCII}\P{Ll}]|\p{Lt}"
NO_CASE_AT_ALL = r"[\p{Ll}][\p{L}\p{M}]*[\p{Lu}\p{Lt}]"
WIDE_SPACES = "[\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # to it in none of the ranges
LLAMA_DIFFERS: dict[str, Callable[[str], bool]] = {
    "o200k": matches(CASELESS + r"|\p{M}"),
    "tekken": matches(CASELESS + r"|\p{M}"),
    "youtu": matches(NO_CASE_AT_ALL),
    "tiny-aya": matches(NO_CASE_AT_ALL + r"|\p{N}"),  # and it groups all digits from the right
    # Letters of mixed case stay together; only the blocks of ideographs are Han.
    "kimi-k2": matches(NO_CASE_AT_ALL + r"|\p{M}|[^\P{Han}\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
                       r"\U00020000-\U0002ebef\U0002f800-\U0002fa1f]|"
                       r"[^\p{Han}\U0002ebf0-\U0010ffff\u0000-\u33ff\u4dc0-\u4dff\ua000-\uf8ff"
                       r"\ufb00-\uffff\U00010000-\U0001ffff]"),
    "deepseek-llm": matches(WIDE_SPACES),
    "deepseek-coder": matches(WIDE_SPACES),
    "afmoe": matches(r"[\ua000-\ua9df\uaa00-\uaa5f\uaa80-\uabff\ud7b0-\uf8ff]"),  # one range too wide
    "superbpe": matches(r"[^\p{ASCII}\P{N}]"),  # ASCII's digits only
}
LONG_S = matches("'\u017f")  # small or large, it is an s to (?i:'s), but not to '[sS]


# Known and left alone: exo cuts where a digit stands beside another kind of number; and a joiner
# behind a number belongs to no word, as it does to Python.
EXO_DIFFERS = {"superbpe": matches(r"[\p{Nl}\p{No}]"), "tiny-aya": matches("[\u200c\u200d]")}


def exo_differs(name: str, text: str) -> bool:
    rule = RULE_OF[name]
    return rule in EXO_DIFFERS and EXO_DIFFERS[rule](text)


def llama_differs(name: str, text: str) -> bool:
    rule = RULE_OF[name]
    if LONG_S(text) and rule not in ("gpt2", "digits"):
        return True
    return rule in LLAMA_DIFFERS and LLAMA_DIFFERS[rule](text)
