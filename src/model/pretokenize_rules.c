/* pretokenize_rules.c - the word rules of all BPE families: one table from names to expressions.
 *
 * Owns what is known about each name in tokenizer.ggml.pre: the expressions of the model's own
 * tokenizer, in PCRE2's syntax, and a few flags.  A name that is not here is refused.
 * Two changes against the originals keep their meaning.  White space is spelled out, because
 * PCRE2's \s also holds U+180E, which Unicode took out.  What can never be given back is
 * possessive, and what would look ahead from every digit of a number does so from its first, so
 * that long runs cost linear time, with and without JIT. */
#include "model/pretokenize.h"

#include <string.h>

#define WHITE                                                                                      \
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"    \
    "\\x{205F}\\x{3000}"
#define SPACE     "[" WHITE "]"
#define NOT_SPACE "[^" WHITE "]"
#define LAST_SPACES                                                                                \
    SPACE "+(?!" NOT_SPACE ")|" SPACE "+" /* all but the one that belongs to the next word */

/* ---- GPT-2 ---- */

#define GPT2 "'(?:[stmd]|re|ve|ll)| ?\\p{L}++| ?\\p{N}++| ?[^" WHITE "\\p{L}\\p{N}]++|" LAST_SPACES

static const char *const gpt2[] = {GPT2, NULL};
static const char *const digits_gpt2[] = {"\\p{N}", GPT2, NULL};

/* ---- GPT-4: contractions in any case, one other character before a word ---- */

#define CONTRACTION "'(?i:[stmd]|re|ve|ll)"
#define BEFORE      "[^\\r\\n\\p{L}\\p{N}]?"
#define WORD        BEFORE "\\p{L}++"
#define SYMBOLS     " ?[^" WHITE "\\p{L}\\p{N}]++"
#define LINES       SPACE "*[\\r\\n]++"

#define QWEN2_TAIL "\\p{N}|" SYMBOLS "[\\r\\n]*+|" LINES "|" LAST_SPACES
#define LLAMA3     CONTRACTION "|" WORD "|\\p{N}{1,3}+|" SYMBOLS "[\\r\\n]*+|" LINES "|" LAST_SPACES
#define QWEN2      CONTRACTION "|" WORD "|" QWEN2_TAIL

static const char *const llama3[] = {LLAMA3, NULL};
static const char *const qwen2[] = {QWEN2, NULL};
static const char *const qwen35[] = {/* combining marks belong to the letters */
                                     CONTRACTION "|" BEFORE "[\\p{L}\\p{M}]++|\\p{N}| ?[^" WHITE
                                                 "\\p{L}\\p{M}\\p{N}]++[\\r\\n]*+|" LINES
                                                 "|" LAST_SPACES,
                                     NULL};
static const char *const ufakzeka[] = {WORD "|" QWEN2_TAIL, NULL};
static const char *const seed_coder[] = {
    CONTRACTION "|" WORD "|\\p{N}| ?[^" WHITE "\\p{L}\\p{N}\\r\\n]++|" LINES "|" LAST_SPACES, NULL};
static const char *const exaone_moe[] = {/* words of several words */
                                         CONTRACTION
                                         "|" BEFORE
                                         "(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}|" SYMBOLS
                                         "[\\r\\n/]?+|" SPACE "*[\\r\\n]|" LAST_SPACES,
                                         NULL};
static const char *const jais2[] = {
    CONTRACTION "|" WORD "|\\p{N}{1,3}+|" SYMBOLS "[\\r\\n]*+|" LINES "|" SPACE "{512}(?!" NOT_SPACE
                ")|" SPACE "{256}(?!" NOT_SPACE ")|" SPACE "{128}(?!" NOT_SPACE ")|" SPACE
                "{64}(?!" NOT_SPACE ")|" SPACE "{32}(?!" NOT_SPACE ")|" SPACE "{16}(?!" NOT_SPACE
                ")|" SPACE "{8}(?!" NOT_SPACE ")|" SPACE "{4}(?!" NOT_SPACE ")|" SPACE
                "{1,2}(?!" NOT_SPACE ")|" SPACE,
    NULL};
static const char *const laguna[] = {"[^\\n]++|\\n++", QWEN2, NULL};
static const char *const minicpm5[] = {
    "\\p{N}{1,3}+", CONTRACTION "|" WORD "|\\p{N}++|" SYMBOLS "[\\r\\n]*+|" LINES "|" LAST_SPACES,
    NULL};

/* ---- GPT-4o: a word also ends where small letters are followed by a capital ---- */

#define UPPER  "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER  "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define ENDING "(?:" CONTRACTION ")?+"
#define CASED(upper, lower, ending)                                                                \
    BEFORE upper "*" lower "++" ending "|" BEFORE upper "++" lower "*+" ending
#define SYMBOLS_SLASH SYMBOLS "[\\r\\n/]*+"
#define O200K                                                                                      \
    CASED(UPPER, LOWER, ENDING)                                                                    \
    "|\\p{N}{1,3}+|" SYMBOLS_SLASH "|" LINES "|" LAST_SPACES

static const char *const o200k[] = {O200K, NULL};
static const char *const tekken[] = {
    CASED(UPPER, LOWER, "") "|\\p{N}|" SYMBOLS_SLASH "|" LINES "|" LAST_SPACES, NULL};

#define CJK "\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}" /* ideographs and kana */

static const char *const youtu[] = {
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]++|"
    "[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}"
    "\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]++|[\\x{3105}-\\x{312F}]++|[" CJK "]++",
    CASED(UPPER, LOWER, ENDING) "|\\p{N}|" SYMBOLS_SLASH "|" LINES "|" LAST_SPACES, NULL};

/* Letters of a word, less the Han ones: the complement of all other categories and of Han. */
#define NO_LETTER "\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}"
#define HAN_UPPER "[^\\p{Ll}" NO_LETTER "]"
#define HAN_LOWER "[^\\p{Lu}\\p{Lt}" NO_LETTER "]"

static const char *const kimi_k2[] = {
    "\\p{sc:Han}++|" CASED(HAN_UPPER, HAN_LOWER, ENDING) "|\\p{N}{1,3}+|" SYMBOLS
                                                         "[\\r\\n]*+|" LINES "|" LAST_SPACES,
    NULL};

/* Digits in threes from the right, where the number ends with the word; \b spelled out, for what
 * belongs to a word differs between versions of PCRE2. */
#define WORD_GOES_ON                                                                               \
    "[\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"                   \
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}]"

static const char *const tiny_aya[] = {"(?<!\\p{Nd})\\p{Nd}{0,2}(?=(?:\\p{Nd}{3})++(?!" WORD_GOES_ON
                                       "))|(?<!\\p{Nd})\\p{Nd}{1,2}(?!" WORD_GOES_ON
                                       ")|(?<=\\p{Nd})(?!" WORD_GOES_ON ")",
                                       O200K, NULL};

/* ---- DeepSeek ---- */

#define ASCII_WORD "[!-/:-@\\[-`{-~][A-Za-z]++"
#define DEEPSEEK3_WORDS                                                                            \
    ASCII_WORD "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]++| ?[\\p{P}\\p{S}]++"

static const char *const deepseek_llm[] = {
    "[\\r\\n]",
    SPACE "?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"
          "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"
          "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"
          "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"
          "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"
          "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"
          "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}"
          "\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}"
          "\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"
          "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"
          "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"
          "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"
          "\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"
          "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"
          "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"
          "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"
          "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"
          "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]++",
    SPACE "?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]++",
    "(?<!" SPACE ")" SPACE "++\\z",
    "[\\x{800}-\\x{9FA5}\\x{AC00}-\\x{D7FF}]++",
    "\\p{N}++",
    NULL};
static const char *const deepseek_coder[] = {
    "[\\r\\n]",        SPACE "?\\p{L}++",
    SPACE "?\\p{P}++", "[\\x{800}-\\x{9FA5}\\x{AC00}-\\x{D7FF}]++",
    "\\p{N}",          NULL};
static const char *const deepseek3[] = {"\\p{N}{1,3}+", "[" CJK "]++",
                                        DEEPSEEK3_WORDS "[\\r\\n]*+|" LINES "|" LAST_SPACES, NULL};
static const char *const spark2_5[] = {"\\p{N}{1,3}+", "[" CJK "]++",
                                       DEEPSEEK3_WORDS "|[\\r\\n]|" LAST_SPACES, "\\p{N}", NULL};
static const char *const afmoe[] = {
    /* numbers in threes from the right; what stands before a number stays with its beginning */
    "(?:\\P{N}++|(?<!\\p{N}))\\p{N}{1,2}(?=(?:\\p{N}{3})++(?!\\p{N}))|\\P{N}*+\\p{N}{1,3}+",
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{30FF}"
    "\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}"
    "\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]++",
    DEEPSEEK3_WORDS "[\\r\\n]*+|" LINES "|" LAST_SPACES, NULL};

/* ---- the rest ---- */

static const char *const falcon[] = {"[\\p{P}$+<=>^~|`]++", GPT2, "[0-9]{3}", NULL};
static const char *const by_default[] = {"[\\p{P}$+<=>^~|]++", GPT2, "\\p{N}++", "[0-9]{3}", NULL};
static const char *const chameleon[] = {"<sentinel:[0-9]+>",
                                        "IMGIMG[A-I]{1,4}Z",
                                        "[\\t\\n]|    |  ",
                                        "\\p{N}",
                                        "[\\p{P}!-/:-@\\[-`{-~]",
                                        GPT2,
                                        NULL};

#define BLOOM " ?[^(" WHITE "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]++"

static const char *const bloom[] = {BLOOM, NULL};
static const char *const viking[] = {BLOOM, "\\p{N}", NULL};
static const char *const superbpe[] = {
    "\\p{N}++", "(?<!\\p{Nd})\\p{Nd}{1,2}(?=(?:\\p{Nd}{3})++(?!\\p{Nd}))|\\p{Nd}{3}", NULL};
static const char *const lines[] = {"[^\\n]++|\\n++", NULL};
static const char *const not_white[] = {NOT_SPACE "++", NULL};

enum {
    WHOLE = EXO_PRE_WHOLE_WORDS,
    BOS = EXO_PRE_BOS,
    RAW = EXO_PRE_RAW,
    ESCAPED = EXO_PRE_RAW | EXO_PRE_ESCAPED_SPACES,
    NEWLINES = EXO_PRE_WHOLE_NEWLINES,
};

static const exo_pre_family families[] = {
    {"llama-bpe", llama3, WHOLE | BOS},
    {"llama3", llama3, WHOLE | BOS},
    {"llama-v3", llama3, WHOLE | BOS},
    {"falcon3", llama3, WHOLE | BOS},
    {"falcon-h1", llama3, WHOLE | BOS},
    {"pixtral", llama3, WHOLE | BOS},
    {"midm-2.0", llama3, WHOLE | BOS},
    {"lfm2", llama3, WHOLE | BOS},
    {"jina-v5-nano", llama3, WHOLE | BOS},
    {"smaug-bpe", llama3, 0},
    {"dbrx", llama3, 0},
    {"glm4", llama3, 0},
    {"chatglm-bpe", llama3, 0},
    {"jais-2", jais2, 0},
    {"minicpm5", minicpm5, WHOLE},
    {"qwen2", qwen2, 0},
    {"deepseek-r1-qwen", qwen2, 0},
    {"kormo", qwen2, 0},
    {"f2llmv2", qwen2, 0},
    {"stablelm2", qwen2, 0},
    {"megrez", qwen2, 0},
    {"hunyuan", qwen2, 0},
    {"solar-open", qwen2, 0},
    {"grok-2", qwen2, 0},
    {"bailingmoe", qwen2, 0},
    {"bailingmoe2", qwen2, 0},
    {"llada-moe", qwen2, 0},
    {"qwen35", qwen35, 0},
    {"ufakzeka", ufakzeka, 0},
    {"seed-coder", seed_coder, 0},
    {"laguna", laguna, 0},
    {"exaone-moe", exaone_moe, 0},
    {"gpt-2", gpt2, 0},
    {"phi-2", gpt2, 0},
    {"jina-es", gpt2, 0},
    {"jina-de", gpt2, 0},
    {"jina-v2-es", gpt2, 0},
    {"jina-v2-de", gpt2, 0},
    {"jina-v1-en", gpt2, 0},
    {"jina-v2-code", gpt2, 0},
    {"roberta-bpe", gpt2, 0},
    {"modern-bert", gpt2, 0},
    {"gigachat", gpt2, 0},
    {"a.x-4.0", gpt2, 0},
    {"mellum", gpt2, 0},
    {"mpt", gpt2, 0},
    {"olmo", gpt2, 0},
    {"jais", gpt2, 0},
    {"exaone4", gpt2, 0},
    {"trillion", gpt2, 0},
    {"granite-docling", gpt2, 0},
    {"starcoder", digits_gpt2, 0},
    {"refact", digits_gpt2, 0},
    {"command-r", digits_gpt2, 0},
    {"smollm", digits_gpt2, 0},
    {"codeshell", digits_gpt2, 0},
    {"exaone", digits_gpt2, 0},
    {"minerva-7b", digits_gpt2, 0},
    {"mellum2", digits_gpt2, 0},
    {"falcon", falcon, 0},
    {"default", by_default, 0},
    {"chameleon", chameleon, BOS},
    {"gpt-4o", o200k, 0},
    {"llama4", o200k, 0},
    {"kanana2", o200k, 0},
    {"talkie", o200k, 0},
    {"minimax-m2", o200k, 0},
    {"granite-embed-multi-97m", o200k, WHOLE},
    {"tekken", tekken, WHOLE | BOS},
    {"tiny_aya", tiny_aya, 0},
    {"cohere2moe", tiny_aya, 0},
    {"youtu", youtu, WHOLE},
    {"kimi-k2", kimi_k2, 0},
    {"deepseek-llm", deepseek_llm, 0},
    {"deepseek-coder", deepseek_coder, 0},
    {"deepseek-v3", deepseek3, 0},
    {"hunyuan-dense", deepseek3, 0},
    {"hy_v4", deepseek3, 0},
    {"joyai-llm", deepseek3, 0},
    {"spark2_5", spark2_5, 0},
    {"afmoe", afmoe, 0},
    {"poro-chat", bloom, 0},
    {"bloom", bloom, 0},
    {"gpt3-finnish", bloom, 0},
    {"viking", viking, 0},
    {"superbpe", superbpe, 0},
    {"gemma4", lines, ESCAPED | NEWLINES | BOS},
    {"granite-embed-multi-311m", lines, ESCAPED | NEWLINES | BOS},
    {"sarvam-moe", lines, ESCAPED},
    {"whitespace", not_white, RAW | EXO_PRE_NO_SPACES},
};

const exo_pre_family *exo_pre_family_find(exo_str name) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        const exo_pre_family *f = &families[i];
        if (strlen(f->name) == name.n && memcmp(f->name, name.s, name.n) == 0) return f;
    }
    return NULL;
}

static const struct {
    const char *const *rules;
    exo_pre_quick quick;
} quick[] = {
    {gpt2, EXO_PRE_LETTERS},       {digits_gpt2, EXO_PRE_LETTERS}, {llama3, EXO_PRE_LETTERS},
    {qwen2, EXO_PRE_LETTERS},      {qwen35, EXO_PRE_LETTERS},      {ufakzeka, EXO_PRE_LETTERS},
    {seed_coder, EXO_PRE_LETTERS}, {laguna, EXO_PRE_LETTERS},      {minicpm5, EXO_PRE_LETTERS},
    {deepseek3, EXO_PRE_LETTERS},  {afmoe, EXO_PRE_LETTERS},       {o200k, EXO_PRE_CASED},
    {tekken, EXO_PRE_CASED},       {youtu, EXO_PRE_CASED},         {kimi_k2, EXO_PRE_CASED},
    {tiny_aya, EXO_PRE_CASED},
};

exo_pre_quick exo_pre_quick_find(const exo_pre_family *family) {
    for (size_t i = 0; i < sizeof quick / sizeof quick[0]; i++) {
        if (quick[i].rules == family->rules) return quick[i].quick;
    }
    return EXO_PRE_NOT_QUICK;
}
