/* jinja_json.c - the tojson filter, byte for byte what Python's json.dumps writes.
 *
 * transformers replaces jinja2's own tojson (which escapes for HTML) by a plain json.dumps with
 * ensure_ascii off; prompts were trained on that text, down to the blank after each comma. */
#include "model/jinja.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    bool ensure_ascii, sort_keys;
    const exo_jstr *indent; /* NULL = all on one line */
    const exo_jstr *item_separator, *key_separator;
} json_style;

static void put_json(exo_jctx *c, const json_style *style, exo_jvalue v, size_t level);

static void put_escaped(exo_jctx *c, uint32_t cp, bool ensure_ascii) {
    static const char named[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
    char text[16] = {'\\'};
    const char *at = cp < 0x80 && cp != 0 ? strchr(named, (int)cp) : NULL;
    if (at != NULL) {
        text[1] = letters[at - named];
    } else if (cp >= 0x20 && !ensure_ascii) {
        exo_jput_char(c, cp);
        return;
    } else if (cp < 0x10000) {
        snprintf(text, sizeof text, "\\u%04x", (unsigned)cp);
    } else {
        unsigned high = 0xD800 + ((cp - 0x10000) >> 10), low = 0xDC00 + (cp & 0x3FF);
        snprintf(text, sizeof text, "\\u%04x\\u%04x", high, low);
    }
    exo_jputs(c, text);
}

static bool is_plain(unsigned char b, bool ensure_ascii) {
    return b >= 0x20 && b != '"' && b != '\\' && (!ensure_ascii || b < 0x7F);
}

static void put_string(exo_jctx *c, const json_style *style, const exo_jstr *s) {
    exo_jputs(c, "\"");
    exo_jcharge(c, s->n / 32);
    for (size_t pos = 0; pos < s->n && exo_jok(c);) {
        size_t from = pos;
        while (pos < s->n && is_plain((unsigned char)s->s[pos], style->ensure_ascii)) pos++;
        exo_jput(c, s->s + from, pos - from);
        if (pos < s->n) put_escaped(c, exo_jutf8_next(s->s, s->n, &pos), style->ensure_ascii);
    }
    exo_jputs(c, "\"");
}

static void put_float(exo_jctx *c, double f) {
    char text[40];
    if (isnan(f)) {
        exo_jputs(c, "NaN");
    } else if (isinf(f)) {
        exo_jputs(c, f < 0 ? "-Infinity" : "Infinity");
    } else {
        exo_jcharge(c, EXO_J_FLOAT_STEPS);
        exo_jput(c, text, exo_jformat_double(f, text));
    }
}

static void put_scalar(exo_jctx *c, exo_jvalue v) {
    char text[24];
    switch ((exo_jtype)v.type) {
    case EXO_J_NONE: exo_jputs(c, "null"); break;
    case EXO_J_BOOL: exo_jputs(c, v.b ? "true" : "false"); break;
    case EXO_J_INT:
        snprintf(text, sizeof text, "%" PRId64, v.i);
        exo_jputs(c, text);
        break;
    default: put_float(c, v.f); break;
    }
}

static void new_line(exo_jctx *c, const json_style *style, size_t level) {
    if (style->indent == NULL) return;
    exo_jputs(c, "\n");
    for (size_t i = 0; i < level && exo_jok(c); i++) exo_jput_str(c, style->indent);
}

static void put_list(exo_jctx *c, const json_style *style, const exo_jlist *l, size_t level) {
    exo_jputs(c, "[");
    for (size_t i = 0; i < l->n && exo_jok(c); i++) {
        if (i > 0) exo_jput_str(c, style->item_separator);
        new_line(c, style, level + 1);
        put_json(c, style, l->items[i], level + 1);
    }
    if (l->n > 0) new_line(c, style, level);
    exo_jputs(c, "]");
}

static void put_key(exo_jctx *c, const json_style *style, exo_jvalue key) {
    if (key.type == EXO_J_STRING) {
        put_string(c, style, key.s);
    } else if (key.type >= EXO_J_NONE && key.type <= EXO_J_FLOAT) {
        exo_jputs(c, "\"");
        put_scalar(c, key);
        exo_jputs(c, "\"");
    } else {
        exo_jfail(c, "keys must be str, int, float, bool or None, not %s", exo_jtype_name(key));
    }
}

/* The dict's entries in the order to write them: keys and values as two lists. */
static bool entries_of(exo_jctx *c, const json_style *style, const exo_jdict *d, exo_jlist **keys,
                       exo_jlist **values) {
    *keys = exo_jlist_new(c, d->n);
    *values = exo_jlist_new(c, d->n);
    for (size_t i = 0; i < d->n; i++) {
        exo_jlist_append(c, *keys, d->entries[i].key);
        exo_jlist_append(c, *values, d->entries[i].value);
    }
    if (!exo_jok(c)) return false;
    if (style->sort_keys) exo_jsort(c, (*keys)->items, (*values)->items, d->n, false);
    return exo_jok(c);
}

static void put_dict(exo_jctx *c, const json_style *style, const exo_jdict *d, size_t level) {
    exo_jlist *keys, *values;
    if (!entries_of(c, style, d, &keys, &values)) return;
    exo_jputs(c, "{");
    for (size_t i = 0; i < d->n && exo_jok(c); i++) {
        if (i > 0) exo_jput_str(c, style->item_separator);
        new_line(c, style, level + 1);
        put_key(c, style, keys->items[i]);
        exo_jput_str(c, style->key_separator);
        put_json(c, style, values->items[i], level + 1);
    }
    if (d->n > 0) new_line(c, style, level);
    exo_jputs(c, "}");
}

static void put_json(exo_jctx *c, const json_style *style, exo_jvalue v, size_t level) {
    if (!exo_jenter(c)) return;
    switch ((exo_jtype)v.type) {
    case EXO_J_NONE:
    case EXO_J_BOOL:
    case EXO_J_INT:
    case EXO_J_FLOAT: put_scalar(c, v); break;
    case EXO_J_STRING: put_string(c, style, v.s); break;
    case EXO_J_LIST:
    case EXO_J_TUPLE: put_list(c, style, v.list, level); break;
    case EXO_J_DICT: put_dict(c, style, v.dict, level); break;
    default: exo_jfail(c, "Object of type %s is not JSON serializable", exo_jtype_name(v)); break;
    }
    exo_jleave(c);
}

static const exo_jstr *indent_text(exo_jctx *c, const exo_jargs *a, size_t i) {
    if (!exo_jgiven(a, i)) return NULL;
    if (a->v[i].type == EXO_J_STRING) return a->v[i].s;
    int64_t width = exo_jarg_int(c, a, i, 0);
    size_t mark = exo_jmark(c);
    for (int64_t k = 0; k < width && exo_jok(c); k++) exo_jputs(c, " ");
    return exo_jtake(c, mark).s;
}

/* tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false) */
exo_jvalue exo_jfilter_tojson(exo_jctx *c, exo_jvalue self, const exo_jargs *a) {
    json_style style = {
        .ensure_ascii = exo_jarg_bool(a, 0, false),
        .indent = self.type == EXO_J_STRING ? NULL : indent_text(c, a, 1),
        .sort_keys = exo_jarg_bool(a, 3, false),
    };
    exo_jargs pair = {0};
    if (exo_jgiven(a, 2)) {
        exo_jlist *l = exo_jiterate(c, a->v[2]);
        if (l == NULL || l->n != 2) return exo_jfail(c, "separators must be a pair of strings");
        pair = (exo_jargs){.v = l->items, .n = 2};
    }
    style.item_separator = exo_jarg_str(c, &pair, 0, style.indent != NULL ? "," : ", ");
    style.key_separator = exo_jarg_str(c, &pair, 1, ": ");
    size_t mark = exo_jmark(c);
    put_json(c, &style, self, 0);
    return exo_jtake(c, mark);
}
