/* template_test.c - chat templates against jinja2's own results, and against bad intentions.
 *
 * The expected texts come from Python's jinja2: 20 published templates with 7 conversations each
 * (shared data), and a table of small cases beside this file (tests/oracle/jinja_diff.py
 * --write-cases fills it in).  Limits and allocation failures are tried on top. */
#define _POSIX_C_SOURCE 200809L
#include "model/template.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define DATA  EXO_SHARED_DATA "/templates/"
#define CASES EXO_SOURCE_DIR "/src/model/template_cases.json"

#define MAX_SECONDS 8 /* two, and four times that under sanitizers */

/* What the cases were rendered with (RANDOM_VARIABLES in jinja_diff.py). */
static const char variables[] =
    "{\"n\": 3, \"f\": 2.5, \"s\": \"abcab\", \"t\": \" Some Text\\n\", \"xs\": [1, 2, 3, 2],"
    " \"ys\": [\"b\", \"a\", \"B\"], \"d\": {\"a\": 1, \"b\": \"two\", \"c\": null},"
    " \"flag\": true, \"nothing\": null, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"},"
    " {\"role\": \"assistant\", \"content\": \"yo\"}]}";

typedef struct {
    exo_status status;
    exo_error err;
    exo_buf text;
} result;

static void finish(result *r) { exo_buf_finish(&r->text); }

static result render(const char *source, size_t n, json_t *vars, int64_t now) {
    result r = {0};
    exo_template *t = NULL;
    exo_template_desc desc = {.now_unix = now};
    r.status = exo_template_compile(source, n, &t, &r.err);
    if (r.status == EXO_OK)
        r.status = exo_template_render(t, vars, &desc, &r.text, &r.err);
    else
        assert_null(t);
    exo_template_destroy(t);
    return r;
}

static result render_text(const char *source) {
    json_t *vars = json_loads(variables, 0, NULL);
    assert_non_null(vars);
    result r = render(source, strlen(source), vars, 0);
    json_decref(vars);
    return r;
}

static bool same(const exo_buf *text, const json_t *want) {
    size_t n = json_string_length(want);
    return text->n == n && memcmp(exo_buf_str(text), json_string_value(want), n) == 0;
}

/* The instant that the goldens were made at: 2026-01-02 00:00 local time. */
static int64_t golden_time(void) {
    struct tm day = {.tm_year = 126, .tm_mon = 0, .tm_mday = 2, .tm_isdst = -1};
    return (int64_t)mktime(&day);
}

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) return NULL;
    char *text = malloc(1 << 20);
    assert_non_null(text);
    *n = fread(text, 1, 1 << 20, f);
    fclose(f);
    return text;
}

/* ---- goldens ---- */

static json_t *load_goldens(void) {
    json_t *golden = json_load_file(DATA "golden-templates.json", 0, NULL);
    if (golden == NULL) {
        print_message("skipped: no golden templates in %s\n", DATA);
        skip();
    }
    return golden;
}

static json_t *golden_variables(json_t *golden, const char *name) {
    json_t *vars = json_copy(json_object_get(golden, "common"));
    json_object_update(vars, json_object_get(json_object_get(golden, "cases"), name));
    return vars;
}

static void check_golden(const char *file, const char *name, json_t *vars, json_t *want) {
    char path[512];
    size_t n;
    snprintf(path, sizeof path, DATA "%s", file);
    char *source = read_file(path, &n);
    assert_non_null(source);
    result r = render(source, n, vars, golden_time());
    json_t *text = json_object_get(want, "ok"), *message = json_object_get(want, "message");
    if (text != NULL && (r.status != EXO_OK || !same(&r.text, text))) {
        fail_msg("%s, %s: %s\n--- want\n%s\n--- got\n%s", file, name, r.err.message,
                 json_string_value(text), exo_buf_str(&r.text));
    }
    if (text == NULL) {
        assert_int_equal(r.status, EXO_EINVAL);
        assert_string_equal(r.err.message, json_string_value(message));
        assert_int_equal(r.text.n, 0);
    }
    finish(&r);
    free(source);
}

static void published_templates_render_as_in_jinja2(void **state) {
    (void)state;
    json_t *golden = load_goldens(), *renders, *want;
    const char *file, *name;
    int n = 0;
    json_object_foreach(json_object_get(golden, "renders"), file, renders) {
        json_object_foreach(renders, name, want) {
            json_t *vars = golden_variables(golden, name);
            check_golden(file, name, vars, want);
            json_decref(vars);
            n++;
        }
    }
    assert_int_equal(n, 140);
    json_decref(golden);
}

/* ---- small cases ---- */

static void small_cases_render_as_in_jinja2(void **state) {
    (void)state;
    size_t i;
    json_t *one, *cases = json_load_file(CASES, JSON_ALLOW_NUL, NULL);
    json_t *common = json_loads(variables, 0, NULL);
    assert_non_null(cases);
    assert_true(json_array_size(cases) > 250);
    json_array_foreach(cases, i, one) {
        json_t *source = json_object_get(one, "template"), *want = json_object_get(one, "ok");
        json_t *vars = json_object_get(one, "vars");
        result r = render(json_string_value(source), json_string_length(source),
                          vars != NULL ? vars : common, 0);
        bool good = want == NULL ? r.status != EXO_OK && r.err.message[0] != '\0'
                                 : r.status == EXO_OK && same(&r.text, want);
        if (!good) {
            fail_msg("%s\n--- want\n%s\n--- got %s\n%s", json_string_value(source),
                     want != NULL ? json_string_value(want) : "an error", r.err.message,
                     exo_buf_str(&r.text));
        }
        finish(&r);
    }
    json_decref(common);
    json_decref(cases);
}

static void errors_say_what_and_where(void **state) {
    (void)state;
    static const struct {
        const char *source;
        exo_status status;
        const char *message;
    } cases[] = {
        {"a\n{{ missing.x }}", EXO_EINVAL, "template line 2: 'missing' is undefined"},
        {"{{ d.zz.x }}", EXO_EINVAL, "template line 1: 'dict object' has no attribute 'zz'"},
        {"{{ xs[9].x }}", EXO_EINVAL, "template line 1: list object has no element 9"},
        {"{{ none.x.y }}", EXO_EINVAL, "template line 1: 'None' has no attribute 'x'"},
        {"{{ missing() }}", EXO_EINVAL, "template line 1: 'missing' is undefined"},
        {"{{ s() }}", EXO_EINVAL, "template line 1: 'str' object is not callable"},
        {"\n\n{{ 'a' + 1 }}", EXO_EINVAL,
         "template line 3: can only concatenate str (not \"int\") to str"},
        {"{{ raise_exception('Only ' ~ n) }}", EXO_EINVAL, "Only 3"},
        {"{{ s|nosuch }}", EXO_EFORMAT, "template line 1: No filter named 'nosuch'."},
        {"{% for x in [] %}{{ s is nosuch }}{% endfor %}", EXO_EFORMAT,
         "template line 1: No test named 'nosuch'."},
        {"{% if n %}{{ s|nosuch }}{% endif %}", EXO_EINVAL,
         "template line 1: No filter named 'nosuch'."},
        {"{{ '{:{:{}}}'.format(1, 2, 3) }}", EXO_EINVAL,
         "template line 1: Max string recursion exceeded"},
        {"{{ '{}{1}'.format(1, 2) }}", EXO_EINVAL,
         "template line 1: cannot switch from manual field specification to automatic field "
         "numbering"},
        {"{{ xs|random }}", EXO_EINVAL,
         "template line 1: random of 4 elements: a prompt must be the same each time"},
        {"{{ lipsum() }}", EXO_EINVAL,
         "template line 1: lipsum makes random text; a prompt must be the same each time"},
        {"{{ '\\N{BULLET}' }}", EXO_EFORMAT, "template line 1: \\N{...} escapes are not supported"},
        {"{{ dict(a=1, a=2) }}", EXO_EFORMAT, "template line 1: keyword argument repeated: a"},
        {"{% block a %}{% endblock %}{% block a %}{% endblock %}", EXO_EFORMAT,
         "template line 1: block 'a' defined twice"},
        {"{% for x in xs %}{% set loop = 1 %}{% endfor %}", EXO_EFORMAT,
         "template line 1: Can't assign to special loop variable in for-loop target"},
        {"{% include 'x' %}", EXO_EINVAL,
         "template line 1: 'include' needs other files; a chat template is one file"},
        {"{{ 9223372036854775807 + 1 }}", EXO_EINVAL,
         "template line 1: an integer result does not fit 64 bits"},
        {"a\n{% nosuch %}", EXO_EFORMAT, "template line 2: Encountered unknown tag 'nosuch'"},
        {"{{ a b }}", EXO_EFORMAT,
         "template line 1: expected token 'end of print statement', got 'b'"},
        {"{% if a %}\n\n", EXO_EFORMAT,
         "template line 2: Unexpected end of template, looking for 'elif'"},
        {"{{ a", EXO_EFORMAT,
         "template line 1: unexpected end of template, expected 'end of print statement'"},
        {"{# a", EXO_EFORMAT, "template line 1: Missing end of comment tag"},
        {"\n{{ (a] }}", EXO_EFORMAT, "template line 2: unexpected ']', expected ')'"},
        {"{{ a ? b }}", EXO_EFORMAT, "template line 1: unexpected char '?'"},
        {"\xff", EXO_EFORMAT, "template line 1: the template is not valid UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        result r = render_text(cases[i].source);
        assert_string_equal(r.err.message, cases[i].message);
        assert_int_equal(r.status, cases[i].status);
        finish(&r);
    }
}

static void dates_use_the_given_clock(void **state) {
    (void)state;
    static const char source[] = "{{ strftime_now('%d %b %Y, %H:%M') }}";
    json_t *vars = json_object();
    result r = render(source, strlen(source), vars, golden_time() + 3600 * 13 + 60 * 5);
    assert_string_equal(exo_buf_str(&r.text), "02 Jan 2026, 13:05");
    finish(&r);
    r = render(source, strlen(source), vars, 0);
    assert_int_equal(r.status, EXO_OK);
    assert_int_equal(r.text.n, strlen("02 Jan 2026, 13:05"));
    finish(&r);
    json_decref(vars);
}

static void a_template_renders_again_and_again(void **state) {
    (void)state;
    static const char source[] =
        "{% set l = xs %}{% set _ = l.append(n) %}{{ l|length }}{{ d.update(z=1) }}{{ d|length }}";
    json_t *vars = json_loads(variables, 0, NULL), *before = json_deep_copy(vars);
    exo_template *t;
    exo_buf out = {0};
    assert_int_equal(exo_template_compile(source, strlen(source), &t, NULL), EXO_OK);
    for (int i = 0; i < 3; i++) {
        exo_buf_clear(&out);
        exo_buf_puts(&out, ">"); /* the text is appended */
        assert_int_equal(exo_template_render(t, vars, NULL, &out, NULL), EXO_OK);
        assert_string_equal(exo_buf_str(&out), ">5None4");
    }
    assert_true(json_equal(vars, before)); /* the caller's JSON is never changed */
    exo_buf_finish(&out);
    exo_template_destroy(t);
    exo_template_destroy(NULL);
    json_decref(vars);
    json_decref(before);
}

static void variables_must_be_an_object(void **state) {
    (void)state;
    json_t *list = json_array();
    result r = render("x", 1, list, 0);
    assert_int_equal(r.status, EXO_EINVAL);
    finish(&r);
    r = render("x", 1, NULL, 0);
    assert_int_equal(r.status, EXO_EINVAL);
    finish(&r);
    json_decref(list);
}

/* ---- limits ---- */

static void refuses_in_time(const char *source, const char *part_of_message) {
    clock_t begin = clock(); /* processor time: the machine may be busy */
    result r = render_text(source);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    if (r.status == EXO_OK || strstr(r.err.message, part_of_message) == NULL) {
        fail_msg("%.80s: want '%s', got '%s'", source, part_of_message, r.err.message);
    }
    assert_int_not_equal(r.status, EXO_ENOMEM);
    if (seconds > MAX_SECONDS) fail_msg("%.80s: took %.1f s", source, seconds);
    finish(&r);
}

static void endless_work_is_stopped(void **state) {
    (void)state;
    refuses_in_time("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
                    "{% endfor %}",
                    "runs too long");
    refuses_in_time("{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}", "");
    refuses_in_time("{% set s = 'ab' * 1000000 %}{% for i in range(99999) %}"
                    "{{ s.find('b' * 1000) }}{% endfor %}",
                    "");
    refuses_in_time("{% set s = ('a' * 3000000) %}{% for i in range(9999) %}"
                    "{{ s.find('a' * 30 ~ 'b' ~ 'a' * 30) }}{% endfor %}",
                    "runs too long");
    refuses_in_time("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
                    "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l == ns.l|list }}{{ ns.l }}",
                    "");
    refuses_in_time("{% for i in range(99999) %}{% for k in range(9) %}{{ 1.1 * i + k }}"
                    "{% endfor %}{% endfor %}",
                    "runs too long");
}

static void memory_and_text_are_bounded(void **state) {
    (void)state;
    refuses_in_time("{% set ns = namespace(s='0123456789abcdef') %}{% for i in range(40) %}"
                    "{% set ns.s = ns.s + ns.s %}{% endfor %}",
                    "");
    refuses_in_time("{% set s = 'x' * 10000 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
                    "64 MiB");
    refuses_in_time("{{ 'x' * 9223372036854775807 }}", "");
    refuses_in_time("{{ [1] * 9223372036854775807 }}", "");
    refuses_in_time("{{ 'x'.center(9223372036854775807) }}", "too wide");
    refuses_in_time("{{ '%999999999d' % 1 }}", "too wide");
    refuses_in_time("{{ '%*d' % (999999999, 1) }}", "too wide");
    refuses_in_time("{{ '%-*s' % (-999999999999, 'x') }}", "too wide");
    refuses_in_time("{{ '%.999999999d' % 1 }}", "too wide");
    refuses_in_time("{{ '%.*f' % (999999999, 1) }}", "more than 1000 digits");
    refuses_in_time("{{ '{:999999999}'.format('a') }}", "too wide");
    refuses_in_time("{{ '{:0999999999,}'.format(1) }}", "too wide");
    refuses_in_time("{{ '{:{}}'.format(1, 999999999) }}", "too wide");
    refuses_in_time("{{ '{:99999999999999999999}'.format(1) }}", "too many decimal digits");
    refuses_in_time("{{ ('a '*1000000)|wordwrap(1, wrapstring='x'*1000) }}", "");
    refuses_in_time("{{ ('a' * 3000000)|wordwrap(1) }}", "");
    refuses_in_time("{{ ('http://a.b.com '*2000000)|urlize }}", "");
    refuses_in_time("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
                    "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|pprint }}",
                    "");
    refuses_in_time("{{ range(100001) }}", "Range too big");
    refuses_in_time("{{ 2 ** 63 }}", "64 bits");
    refuses_in_time("{{ (-9223372036854775807 - 1) // -1 }}", "64 bits");
}

static char *repeated(const char *head, const char *part, size_t times, const char *tail) {
    size_t n = strlen(part);
    char *s = malloc(strlen(head) + n * times + strlen(tail) + 1), *at = s;
    assert_non_null(s);
    at += sprintf(at, "%s", head);
    for (size_t i = 0; i < times; i++, at += n) memcpy(at, part, n);
    sprintf(at, "%s", tail);
    return s;
}

static void nesting_is_bounded(void **state) {
    (void)state;
    static const struct {
        const char *head, *part, *tail;
    } cases[] = {
        {"{{ ", "(", ""},
        {"{{ ", "[", ""},
        {"{{ ", "{1:", ""},
        {"{{ ", "-", "1 }}"},
        {"{{ ", "not ", "1 }}"},
        {"", "{% if 1 %}", ""},
        {"{{ ", "a(", ""},
        {"{{ ", "a[", ""},
        {"{{ ", "1 if 1 else ", "1 }}"},
        {"{{ 1", " if 1", " }}"},
        {"", "{% autoescape 1 %}", ""},
        {"{{ 1", "|abs", "}}"},
        {"{{ 1", " + 1", " }}"},
        {"{{ x", ".a", " }}"},
        {"", "{% macro a() %}", ""},
        {"{% set x %}", "{% filter e %}", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *source = repeated(cases[i].head, cases[i].part, 100000, cases[i].tail);
        refuses_in_time(source, "nested deeper");
        free(source);
    }
    refuses_in_time("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested deeper");
    result self = render_text("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}");
    assert_string_equal(exo_buf_str(&self.text), "[[...]]");
    finish(&self);
    refuses_in_time("{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}", "nested deeper");
    refuses_in_time("{% block a %}{{ self.a() }}{% endblock %}", "nested deeper");
    refuses_in_time("{% set l = [] %}{% set _ = l.append(l) %}{{ l|pprint }}", "within itself");
    refuses_in_time("{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}", "nested deeper");
}

static void deep_json_is_an_error(void **state) {
    (void)state;
    json_t *deep = json_array();
    for (int i = 0; i < 1500; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, deep);
        deep = outer;
    }
    json_t *vars = json_pack("{s:o}", "x", deep);
    result r = render("{{ x }}", 7, vars, 0);
    assert_int_equal(r.status, EXO_EINVAL);
    assert_non_null(strstr(r.err.message, "nested deeper"));
    finish(&r);
    json_decref(vars);
}

/* ---- memory failures ---- */

static void fails_cleanly_at_every_allocation(const char *source, size_t n, json_t *vars) {
    for (uint64_t k = 1;; k++) {
        exo_template *t = NULL;
        exo_buf out = {0};
        exo_error err = {0};
        exo_mem_fail_at(k);
        exo_status status = exo_template_compile(source, n, &t, &err);
        if (status == EXO_OK) status = exo_template_render(t, vars, NULL, &out, &err);
        bool failed = exo_mem_failed();
        exo_mem_fail_at(0);
        if (failed) {
            assert_int_equal(status, EXO_ENOMEM);
            assert_true(err.message[0] != '\0');
            assert_int_equal(out.n, 0);
        }
        exo_buf_finish(&out);
        exo_template_destroy(t);
        if (!failed) {
            assert_true(k > 2);
            return;
        }
    }
}

static void allocation_failures_leak_nothing(void **state) {
    (void)state;
    static const char growing[] =
        "{% set ns = namespace(s='', l=[], d={}) %}{% for i in range(1200) %}"
        "{% set ns.s = ns.s ~ i %}{% set _ = ns.l.append(i|string) %}"
        "{% set _ = ns.d.update({i: ns.l[:2]}) %}{{ ns.l|join }}{% endfor %}"
        "{% macro m(x) %}{{ caller(x) }}{% endmacro %}{% call(y) m(1) %}{{ y }}{% endcall %}"
        "{{ ns.d|tojson(indent=2) }}{{ ns.l|sort|length }}";
    json_t *vars = json_loads(variables, 0, NULL);
    fails_cleanly_at_every_allocation(growing, 300, vars); /* cut off: a syntax error */
    fails_cleanly_at_every_allocation(growing, strlen(growing), vars);
    json_decref(vars);
}

static void published_templates_survive_allocation_failures(void **state) {
    (void)state;
    json_t *golden = load_goldens();
    json_t *vars = golden_variables(golden, "tools_roundtrip");
    static const char *const files[] = {DATA "openai-gpt-oss-120b.jinja", DATA "Qwen3-Coder.jinja"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t n;
        char *source = read_file(files[i], &n);
        assert_non_null(source);
        fails_cleanly_at_every_allocation(source, n, vars);
        free(source);
    }
    json_decref(vars);
    json_decref(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_templates_render_as_in_jinja2),
        cmocka_unit_test(small_cases_render_as_in_jinja2),
        cmocka_unit_test(errors_say_what_and_where),
        cmocka_unit_test(dates_use_the_given_clock),
        cmocka_unit_test(a_template_renders_again_and_again),
        cmocka_unit_test(variables_must_be_an_object),
        cmocka_unit_test(endless_work_is_stopped),
        cmocka_unit_test(memory_and_text_are_bounded),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(deep_json_is_an_error),
        cmocka_unit_test(allocation_failures_leak_nothing),
        cmocka_unit_test(published_templates_survive_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
