/* jinja_urlize.c - the filter urlize: addresses in a text as links.
 *
 * jinja2 does this with regular expressions; what they match is spelled out here, word by word of
 * the escaped text: punctuation around an address stays outside of it, unless it balances. */
#include "model/jinja.h"

#include <string.h>

typedef struct {
    const exo_jstr *rel, *target; /* whole attributes, or empty */
    const exo_jlist *schemes;     /* NULL = none */
    bool trims;
    const exo_jargs *limit; /* what is shown of an address, read when there is one */
} link_style;

/* ---- what is an address ---- */

static bool is_ascii_letter(char b) { return (b | 0x20) >= 'a' && (b | 0x20) <= 'z'; }

static bool begins_with(const exo_jstr *s, size_t pos, const char *text) {
    size_t n = strlen(text);
    if (n > s->n - pos) return false;
    for (size_t i = 0; i < n; i++) {
        char b = s->s[pos + i];
        if ((is_ascii_letter(b) ? b | 0x20 : b) != text[i]) return false;
    }
    return true;
}

/* The end of the characters from pos on that may stand in a name. */
static size_t label_end(const exo_jstr *s, size_t pos, const char *others) {
    while (pos < s->n) {
        size_t next = pos;
        uint32_t cp = exo_jutf8_next(s->s, s->n, &next);
        bool other = cp < 0x80 && cp != 0 && strchr(others, (int)cp) != NULL;
        if (!other && !exo_jis_word(cp)) break;
        pos = next;
    }
    return pos;
}

static bool is_top_label(const exo_jstr *s, size_t from, size_t to) {
    size_t letters = from;
    while (letters < to && is_ascii_letter(s->s[letters])) letters++;
    if (letters == to) return to - from >= 2 && to - from <= 63;
    if (!begins_with(s, from, "xn--") || label_end(s, from + 4, "%") < to) return false;
    size_t n = exo_jutf8_count(s->s + from + 4, to - from - 4);
    return n >= 2 && n <= 59;
}

static bool is_known_top(const exo_jstr *s, size_t from, size_t to) {
    static const char *const names[] = {"com", "net", "int", "edu", "gov", "org", "info", "mil"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (to - from == strlen(names[i]) && begins_with(s, from, names[i])) return true;
    }
    return false;
}

/* Labels with dots between them, from `from` to `to`, the last one a top-level domain. */
static bool is_domain(const exo_jstr *s, size_t from, size_t to, bool has_scheme) {
    while (from < to) {
        size_t end = label_end(s, from, "%-");
        if (end >= to) return has_scheme ? is_top_label(s, from, to) : false;
        size_t n = exo_jutf8_count(s->s + from, end - from);
        if (s->s[end] != '.' || n < (has_scheme ? 1 : 2) || (!has_scheme && n > 63)) return false;
        if (!has_scheme && is_known_top(s, end + 1, to)) return true;
        from = end + 1;
    }
    return false;
}

static size_t digits_end(const exo_jstr *s, size_t pos, size_t most) {
    size_t end = pos;
    for (size_t n = 0; end < s->n && n < most; n++) {
        size_t next = end;
        if (!exo_jis_decimal(exo_jutf8_next(s->s, s->n, &next))) break;
        end = next;
    }
    return end;
}

/* Four numbers of up to three digits. */
static bool is_ipv4(const exo_jstr *s, size_t from, size_t to) {
    for (int i = 0; i < 4; i++) {
        size_t end = digits_end(s, from, 3);
        if (end == from) return false;
        if (i == 3) return end == to;
        if (end >= to || s->s[end] != '.') return false;
        from = end + 1;
    }
    return false;
}

/* The end of "[...]" with two and up to six more groups of up to four hex digits, or 0. */
static size_t ipv6_end(const exo_jstr *s, size_t pos) {
    size_t groups = 0, hex = 0;
    if (pos >= s->n || s->s[pos] != '[') return 0;
    for (pos++; pos < s->n; pos++) {
        char b = s->s[pos], low = (char)(b | 0x20);
        if ((b >= '0' && b <= '9') || (low >= 'a' && low <= 'f')) {
            hex++;
        } else if (b == ':') {
            if (groups < 2 && hex > 4) return 0;
            groups += groups < 2 || hex <= 4 ? 1 : (hex + 3) / 4;
            hex = 0;
        } else {
            break;
        }
    }
    if (groups < 2) return 0;
    groups += (hex + 3) / 4;
    return pos < s->n && s->s[pos] == ']' && groups <= 8 ? pos + 1 : 0;
}

/* Nothing, a port, or a path, up to the end of the word. */
static bool is_rest(const exo_jstr *s, size_t pos) {
    if (pos < s->n && s->s[pos] == ':') {
        size_t end = digits_end(s, pos + 1, 5);
        if (end == pos + 1) return false;
        pos = end;
    }
    return pos == s->n || s->s[pos] == '/' || s->s[pos] == '?' || s->s[pos] == '#';
}

static bool is_web_address(const exo_jstr *s) {
    size_t http = begins_with(s, 0, "https://") ? 8 : begins_with(s, 0, "http://") ? 7 : 0;
    size_t from = http != 0 ? http : begins_with(s, 0, "www.") ? 4 : 0;
    size_t end = label_end(s, from, "%-.");
    if (from != 0 && is_rest(s, end) && is_domain(s, from, end, true)) return true;
    if (http != 0 && is_rest(s, end) && is_ipv4(s, from, end)) return true;
    if (http != 0 && ipv6_end(s, from) != 0) return is_rest(s, ipv6_end(s, from));
    end = label_end(s, 0, "%-.");
    return is_rest(s, end) && is_domain(s, 0, end, false);
}

/* name@domain.word from `from` on */
static bool is_mail_address(const exo_jstr *s, size_t from) {
    size_t at = s->n, dot = 0, next;
    while (at > from && s->s[at - 1] != '@') at--;
    if (at < from + 2 || at >= s->n) return false;
    next = at;
    if (!exo_jis_word(exo_jutf8_next(s->s, s->n, &next))) return false;
    if (label_end(s, at, ".-") < s->n) return false;
    for (dot = s->n; dot > at && s->s[dot - 1] != '.';) dot--;
    return dot > next && dot < s->n && label_end(s, dot, "") == s->n;
}

/* ---- words ---- */

static size_t count_of(const exo_jstr *s, size_t from, size_t to, const char *what) {
    size_t n = strlen(what), count = 0;
    for (size_t i = from; i + n <= to;) {
        bool here = memcmp(s->s + i, what, n) == 0;
        count += here;
        i += here ? n : 1;
    }
    return count;
}

static size_t head_end(const exo_jstr *s) {
    size_t pos = 0;
    for (;;) {
        if (pos < s->n && (s->s[pos] == '(' || s->s[pos] == '<'))
            pos++;
        else if (pos + 4 <= s->n && memcmp(s->s + pos, "&lt;", 4) == 0)
            pos += 4;
        else
            return pos;
    }
}

static size_t tail_begin(const exo_jstr *s, size_t from) {
    size_t pos = s->n;
    for (;;) {
        if (pos > from && strchr(")>.,", s->s[pos - 1]) != NULL && s->s[pos - 1] != '\0')
            pos--;
        else if (pos >= from + 4 && memcmp(s->s + pos - 4, "&gt;", 4) == 0)
            pos -= 4;
        else
            return pos;
    }
}

/* Moves closing brackets from the tail back to the address while it has more opening ones. */
static size_t balance(const exo_jstr *s, size_t from, size_t to) {
    static const char *const pairs[][2] = {{"(", ")"}, {"<", ">"}, {"&lt;", "&gt;"}};
    for (size_t i = 0; i < 3; i++) {
        size_t open = count_of(s, from, to, pairs[i][0]);
        if (open <= count_of(s, from, to, pairs[i][1])) continue;
        size_t moves = count_of(s, to, s->n, pairs[i][1]), n = strlen(pairs[i][1]);
        for (moves = moves < open ? moves : open; moves > 0; moves--) {
            while (memcmp(s->s + to, pairs[i][1], n) != 0) to++;
            to += n;
        }
    }
    return to;
}

static void put_shown(exo_jctx *c, const link_style *style, exo_jvalue address) {
    int64_t limit = style->trims ? exo_jarg_int(c, style->limit, 0, 0) : INT64_MAX;
    if ((int64_t)address.s->n_chars <= limit) {
        exo_jput_str(c, address.s);
        return;
    }
    exo_jvalue bounds[3] = {exo_jnone, exo_jint(limit), exo_jnone};
    exo_jput_str(c, exo_jslice(c, address, bounds).s);
    exo_jputs(c, "...");
}

static void put_link(exo_jctx *c, const link_style *style, const char *prefix, exo_jvalue address) {
    exo_jputs(c, "<a href=\"");
    exo_jputs(c, prefix);
    exo_jput_str(c, address.s);
    exo_jputs(c, "\"");
    exo_jput_str(c, style->rel);
    exo_jput_str(c, style->target);
    exo_jputs(c, ">");
    put_shown(c, style, address);
    exo_jputs(c, "</a>");
}

static void put_mail(exo_jctx *c, const char *prefix, const exo_jstr *address, size_t from) {
    exo_jputs(c, "<a href=\"");
    exo_jputs(c, prefix);
    exo_jput_str(c, address);
    exo_jputs(c, "\">");
    exo_jput(c, address->s + from, address->n - from);
    exo_jputs(c, "</a>");
}

/* Links for further schemes: each sees what the one before it made. */
static void put_other(exo_jctx *c, const link_style *style, exo_jvalue word) {
    link_style whole = *style;
    whole.trims = false;
    for (size_t i = 0; style->schemes != NULL && i < style->schemes->n && exo_jok(c); i++) {
        const exo_jstr *scheme = style->schemes->items[i].s;
        bool longer = scheme->n < word.s->n && memcmp(scheme->s, word.s->s, scheme->n) == 0;
        size_t mark = exo_jmark(c);
        if (longer) put_link(c, &whole, "", word);
        if (longer) word = exo_jtake(c, mark);
    }
    exo_jput_str(c, word.s);
}

static void put_word(exo_jctx *c, const link_style *style, const exo_jstr *word) {
    size_t from = head_end(word), to = tail_begin(word, from);
    to = balance(word, from, to);
    exo_jvalue middle = exo_jsubstr(c, word, from, to);
    const exo_jstr *m = middle.s;
    bool www = m->n >= 4 && memcmp(m->s, "www.", 4) == 0;
    bool mailto = m->n >= 7 && memcmp(m->s, "mailto:", 7) == 0;
    bool colon = m->n > 0 && memchr(m->s, ':', m->n) != NULL;
    bool http = (m->n >= 8 && memcmp(m->s, "https://", 8) == 0) ||
                (m->n >= 7 && memcmp(m->s, "http://", 7) == 0);
    exo_jcharge(c, 1 + word->n / 4);
    exo_jput(c, word->s, from);
    if (is_web_address(m))
        put_link(c, style, http ? "" : "https://", middle);
    else if (mailto && is_mail_address(m, 7))
        put_mail(c, "", m, 7);
    else if (!www && !colon && is_mail_address(m, 0))
        put_mail(c, "mailto:", m, 0);
    else
        put_other(c, style, middle);
    exo_jput(c, word->s + to, word->n - to);
}

static void put_words(exo_jctx *c, const link_style *style, const exo_jstr *s) {
    for (size_t pos = 0, from = 0; pos < s->n && exo_jok(c); from = pos) {
        bool space = false;
        while (pos < s->n) {
            size_t next = pos;
            space = exo_jis_space(exo_jutf8_next(s->s, s->n, &next));
            if (space) break;
            pos = next;
        }
        if (pos > from) put_word(c, style, exo_jsubstr(c, s, from, pos).s);
        for (from = pos; pos < s->n && space;) {
            size_t next = pos;
            space = exo_jis_space(exo_jutf8_next(s->s, s->n, &next));
            if (space) pos = next;
        }
        exo_jput(c, s->s + from, pos - from);
    }
}

/* ---- arguments ---- */

static exo_jvalue attribute(exo_jctx *c, const char *name, exo_jvalue value) {
    size_t mark = exo_jmark(c);
    if (!exo_jtruth(value)) return exo_jstring_borrow(c, "", 0);
    exo_jputs(c, " ");
    exo_jputs(c, name);
    exo_jputs(c, "=\"");
    exo_jvalue text = exo_jto_str(c, value);
    exo_jput_str(c, text.markup ? text.s : exo_jstr_escape(c, text.s).s);
    exo_jputs(c, "\"");
    return exo_jtake(c, mark);
}

/* The words of rel, "noopener" and perhaps "nofollow": each once, sorted. */
static exo_jvalue rel_words(exo_jctx *c, const exo_jargs *a) {
    static const char split[] = "split";
    const exo_jstr name = {.s = split, .n = 5, .n_chars = 5};
    const exo_jargs none = {0};
    exo_jlist *words = exo_jlist_new(c, 0);
    size_t mark;
    if (exo_jgiven(a, 3) && exo_jtruth(a->v[3])) {
        exo_jvalue rel = {.type = EXO_J_STRING, .s = exo_jarg_str(c, a, 3, "")};
        exo_jvalue own = exo_jcall_native(c, exo_jstr_method_find(&name), rel, &none);
        for (size_t i = 0; exo_jok(c) && i < own.list->n; i++)
            exo_jlist_append(c, words, own.list->items[i]);
    }
    if (exo_jarg_bool(a, 1, false))
        exo_jlist_append(c, words, exo_jstring_borrow(c, "nofollow", 8));
    exo_jlist_append(c, words, exo_jstring_borrow(c, "noopener", 8));
    if (!exo_jok(c)) return exo_jundefined;
    exo_jlist *keys = exo_jlist_new(c, words->n);
    for (size_t i = 0; i < words->n; i++) exo_jlist_append(c, keys, words->items[i]);
    if (exo_jok(c)) exo_jsort(c, keys->items, words->items, words->n, false);
    mark = exo_jmark(c);
    for (size_t i = 0; i < words->n && exo_jok(c); i++) {
        if (i > 0 && exo_jstr_equal(words->items[i].s, words->items[i - 1].s)) continue;
        if (i > 0) exo_jputs(c, " ");
        exo_jput_str(c, words->items[i].s);
    }
    return exo_jtake(c, mark);
}

/* At least two of \w.+- and a colon, then up to two slashes. */
static void check_scheme(exo_jctx *c, exo_jvalue scheme) {
    size_t end = 0;
    bool valid = scheme.type == EXO_J_STRING;
    if (valid) {
        const exo_jstr *s = scheme.s;
        end = label_end(s, 0, ".+-");
        size_t slashes = end + 1;
        while (slashes < s->n && s->s[slashes] == '/') slashes++;
        valid = exo_jutf8_count(s->s, end) >= 2 && end < s->n && s->s[end] == ':' &&
                slashes == s->n && slashes - end <= 3;
    }
    if (!valid) exo_jfail(c, "an extra scheme is not a valid URI scheme prefix");
}

/* urlize(trim_url_limit, nofollow, target, rel, extra_schemes) */
exo_jvalue exo_jfilter_urlize(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    link_style style = {.trims = exo_jgiven(a, 0), .limit = a};
    exo_jvalue text = exo_jto_str(c, self), target = exo_jgiven(a, 2) ? a->v[2] : exo_jnone;
    if (!text.markup) text = exo_jstr_escape(c, text.s);
    style.rel = attribute(c, "rel", rel_words(c, a)).s;
    style.target = attribute(c, "target", target).s;
    if (exo_jgiven(a, 4)) style.schemes = exo_jiterate(c, a->v[4]);
    for (size_t i = 0; exo_jok(c) && style.schemes != NULL && i < style.schemes->n; i++)
        check_scheme(c, style.schemes->items[i]);
    size_t mark = exo_jmark(c);
    if (exo_jok(c)) put_words(c, &style, text.s);
    exo_jvalue result = exo_jtake(c, mark);
    result.markup = c->autoescape;
    return result;
}
