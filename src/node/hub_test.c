/* hub_test.c - references, replies of a hub, and which files are chosen. */
#include "node/hub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void references_are_read(void **ud) {
    (void)ud;
    static const struct {
        const char *text, *repo, *revision, *what, *file;
    } good[] = {
        {"hf:a/b", "a/b", "main", "", ""},
        {"hf:a/b:Q4_K_M", "a/b", "main", "Q4_K_M", ""},
        {"hf:Own.er/re-po_1.5:sub/x.gguf", "Own.er/re-po_1.5", "main", "sub/x.gguf", ""},
        {"hf:a/b@v1.0:Q8_0", "a/b", "v1.0", "Q8_0", ""},
        {"hf.co/a/b", "a/b", "main", "", ""},
        {"https://huggingface.co/a/b", "a/b", "main", "", ""},
        {"https://h:8/x/my%20m.gguf?s=1#f", "", "main", "", "my m.gguf"},
        {"https://huggingface.co/a/b/resolve/main/x.gguf", "", "main", "", "x.gguf"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        exo_hub_ref r;
        exo_error err = {0};
        if (exo_hub_ref_parse(good[i].text, &r, &err) != EXO_OK) fail_msg("%s", err.message);
        assert_string_equal(r.repo, good[i].repo);
        assert_string_equal(r.revision, good[i].revision);
        assert_string_equal(r.what, good[i].what);
        assert_string_equal(r.file, good[i].file);
    }
}

static void bad_references_are_refused(void **ud) {
    (void)ud;
    static const char *const bad[] = {
        "",
        "a/b",
        "hf:",
        "hf:a",
        "hf:/b",
        "hf:a/",
        "hf:a/b/c",
        "hf:../b",
        "hf:a/..",
        "hf:a/.b",
        "hf:a/b:",
        "hf:a/b:../x.gguf",
        "hf:a/b:/x.gguf",
        "hf:a/b:c//x.gguf",
        "hf:a/b:c/.x",
        "hf:a/b:c\nx",
        "hf:a/b@:x",
        "hf:a/b@../..",
        "https://h/x.bin",
        "https://h/",
        "https://h",
        "https://h/a%2fb.gguf",
        "https://h/%00.gguf",
        "https://h/a%4gb.gguf",
        "https://h/a%+4b.gguf",
        "https://u:p@h/x.gguf",
        "https://h/a b.gguf",
        "ftp://h/x.gguf",
        "https://h/.gguf",
        "https://h/..gguf",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exo_hub_ref r;
        exo_error err = {0};
        if (exo_hub_ref_parse(bad[i], &r, &err) != EXO_EINVAL) fail_msg("%s was taken", bad[i]);
        assert_non_null(strstr(err.message, "hf:OWNER/REPO"));
    }
}

/* ---- choosing ---- */

#define SHA                                                                                        \
    "\"lfs\":{\"oid\":\"ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789\","       \
    "\"size\":"

static void add(char *json, size_t cap, const char *path, int bytes) {
    size_t n = strlen(json);
    snprintf(json + n, cap - n, "%s{\"type\":\"file\",\"path\":\"%s\",\"size\":%d," SHA "%d}}",
             n > 1 ? "," : "", path, bytes, bytes);
}

/* "id: file file" of what a reference picks, or the error. */
static void expect(const char *const *paths, const char *ref_text, const char *want) {
    char json[8192] = "[", got[1024];
    exo_hub_tree t = {0};
    exo_hub_choice c;
    exo_hub_ref ref;
    exo_error err = {0};
    for (int i = 0; paths[i] != NULL; i++) add(json, sizeof json, paths[i], i + 1);
    strcat(json, "]");
    assert_int_equal(exo_hub_ref_parse(ref_text, &ref, &err), EXO_OK);
    if (exo_hub_tree_parse(json, strlen(json), &t, &err) != EXO_OK) fail_msg("%s", err.message);
    if (exo_hub_choose(&t, &ref, &c, &err) != EXO_OK) {
        snprintf(got, sizeof got, "%s", err.message);
        assert_null(c.files);
        if (strstr(got, want) == NULL) fail_msg("\"%s\" does not say \"%s\"", got, want);
    } else {
        uint64_t bytes = 0;
        size_t n = (size_t)snprintf(got, sizeof got, "%s%s:", c.id, c.folder ? "/" : "");
        for (size_t i = 0; i < c.n; i++) {
            n += (size_t)snprintf(got + n, sizeof got - n, " %s", c.files[i]->path);
            bytes += c.files[i]->bytes;
            assert_int_equal(strlen(c.files[i]->sha256), 64);
            assert_int_equal(c.files[i]->sha256[0], 'a');
        }
        assert_int_equal(bytes, c.bytes);
        assert_string_equal(got, want);
    }
    exo_hub_choice_finish(&c);
    exo_hub_tree_finish(&t);
}

static void quantisations_are_found(void **ud) {
    (void)ud;
    static const char *const repo[] = {"m-Q4_K_M.gguf",
                                       "m-UD-Q4_K_M.gguf",
                                       "m-Q4_K_S.gguf",
                                       "m.IQ4_NL.gguf",
                                       "mmproj-m-Q8_0.gguf",
                                       "README.md",
                                       "BF16/m-BF16-00002-of-00002.gguf",
                                       "BF16/m-BF16-00001-of-00002.gguf",
                                       "Q6_K/part.gguf",
                                       "half-00001-of-00003.gguf",
                                       NULL};
    expect(repo, "hf:a/b", "m-Q4_K_M: m-Q4_K_M.gguf");
    expect(repo, "hf:a/b:q4_k_m", "m-Q4_K_M: m-Q4_K_M.gguf");
    expect(repo, "hf:a/b:UD-Q4_K_M", "m-UD-Q4_K_M: m-UD-Q4_K_M.gguf");
    expect(repo, "hf:a/b:IQ4_NL", "m.IQ4_NL: m.IQ4_NL.gguf");
    expect(repo, "hf:a/b:Q6_K", "part: Q6_K/part.gguf");
    expect(repo, "hf:a/b:BF16",
           "m-BF16: BF16/m-BF16-00001-of-00002.gguf BF16/m-BF16-00002-of-00002.gguf");
    expect(repo, "hf:a/b:BF16/m-BF16-00002-of-00002.gguf",
           "m-BF16: BF16/m-BF16-00001-of-00002.gguf BF16/m-BF16-00002-of-00002.gguf");
    expect(repo, "hf:a/b:half-00001-of-00003.gguf", "lacks part 2 of 3");
    expect(repo, "hf:a/b:NL", "no \"NL\"");
    expect(repo, "hf:a/b:Q8_0", "no \"Q8_0\"; it has m-Q4_K_M, ");
    expect(repo, "hf:a/b:x.gguf", "no \"x.gguf\"");
    expect(repo, "hf:a/b:safetensors", "no \"safetensors\"");
}

static void safetensors_come_as_a_folder(void **ud) {
    (void)ud;
    static const char *const repo[] = {"config.json",
                                       "model-00001-of-00002.safetensors",
                                       "model-00002-of-00002.safetensors",
                                       "model.safetensors.index.json",
                                       "tokenizer.json",
                                       "original/model.safetensors",
                                       "pytorch_model.bin",
                                       NULL};
    expect(repo, "hf:a/Model-7B",
           "Model-7B/: config.json model-00001-of-00002.safetensors "
           "model-00002-of-00002.safetensors model.safetensors.index.json tokenizer.json");
    static const char *const bare[] = {"model.safetensors", NULL};
    expect(bare, "hf:a/b", "hf:a/b has no GGUF file and no safetensors that exo can use");
    expect(bare, "hf:a/b:Q4_0", "no \"Q4_0\"; it has no GGUF file");
    static const char *const one[] = {"a-Q3_K.gguf", NULL}, *const two[] = {"a.gguf", "b.gguf",
                                                                            NULL};
    expect(one, "hf:a/b", "a-Q3_K: a-Q3_K.gguf");
    expect(two, "hf:a/b", "say which after a colon; it has a, b");
}

static void bad_replies_are_refused(void **ud) {
    (void)ud;
    static const char *const bad[] = {
        "",
        "{",
        "{}",
        "\"x\"",
        "[1]",
        "[{\"type\":\"file\"}]",
        "[[]]",
        "[{\"type\":\"file\",\"path\":\"a.gguf\"}]",
        "[null]",
        "[{\"type\":\"file\",\"path\":\"a.gguf\",\"size\":-1}]",
        "[]x",
        "[{\"type\":\"file\",\"path\":\"a.gguf\",\"size\":1e400}]",
        "[{\"a\":1,\"a\":2}]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        exo_hub_tree t = {0};
        exo_error err = {0};
        if (exo_hub_tree_parse(bad[i], strlen(bad[i]), &t, &err) != EXO_EFORMAT) {
            fail_msg("%s was taken", bad[i]);
        }
        assert_true(err.message[0] != '\0');
        exo_hub_tree_finish(&t);
    }
    char commit[EXO_HUB_COMMIT_BYTES];
    static const char good[] = "{\"sha\":\"0a1b\",\"id\":\"a/b\"}", evil[] = "{\"sha\":\"../x\"}";
    assert_int_equal(exo_hub_commit_parse(good, strlen(good), commit, NULL), EXO_OK);
    assert_string_equal(commit, "0a1b");
    assert_int_equal(exo_hub_commit_parse(evil, strlen(evil), commit, NULL), EXO_EFORMAT);
}

static void unsafe_paths_are_left_out(void **ud) {
    (void)ud;
    static const char *const repo[] = {"../a-Q4_0.gguf",
                                       "/b-Q4_0.gguf",
                                       "c/../d-Q4_0.gguf",
                                       ".hidden-Q4_0.gguf",
                                       "e\\\\f-Q4_0.gguf",
                                       "ok-Q4_0.gguf",
                                       NULL};
    expect(repo, "hf:a/b", "ok-Q4_0: ok-Q4_0.gguf");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_are_read),     cmocka_unit_test(bad_references_are_refused),
        cmocka_unit_test(quantisations_are_found), cmocka_unit_test(safetensors_come_as_a_folder),
        cmocka_unit_test(bad_replies_are_refused), cmocka_unit_test(unsafe_paths_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
