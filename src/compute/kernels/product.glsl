/* product.glsl - what the kernels of products share: which rows of which matrices a workgroup takes,
 * and what becomes of a finished sum.
 *
 * Lanes: t = kl * ROW_LANES + rl.  Lane rl computes the four rows of its group for COLS columns;
 * the K_LANES lanes of equal rl share K: lane kl takes units kl, kl + K_LANES, ... in order, and a
 * tree adds the lanes.  With SPLIT = 4 there are four lanes in each such place, one for each row.
 * No order depends on the number of columns, so a row of a step gets the same bits alone and
 * among others. */
#define ROWS 4u

layout(constant_id = 1) const uint ROW_LANES = 1;
layout(constant_id = 2) const uint COLS = 1;
layout(constant_id = 3) const uint PAIR = 0;  /* 1: out = silu(part 0) * part 1 */
layout(constant_id = 4) const uint SPLIT = 1; /* lanes that share a group's rows: 1 or 4 */

layout(set = 0, binding = 7, std430) buffer Outputs { float result[]; };
layout(set = 0, binding = 8, std430) readonly buffer Bias0 { float bias0[]; };
layout(set = 0, binding = 9, std430) readonly buffer Bias1 { float bias1[]; };
layout(set = 0, binding = 10, std430) readonly buffer Bias2 { float bias2[]; };
layout(set = 0, binding = 11, std430) readonly buffer NextNorm { float next_norm[]; };

struct Part {
    uint base;      /* of the matrix, in uvec4 */
    uint n_rows;    /* in this run of rows */
    uint row0;      /* first of them in the whole matrix */
    uint first;     /* workgroup of its first group */
    uint out_at;    /* in floats */
    uint out_ld;
};

layout(push_constant) uniform Push {
    uint n_units, in_ld4;   /* the input range begins at row 0 */
    uint norm_ld4;          /* vec4 per row of the norm's input */
    float norm_n, norm_eps; /* elements of a row */
    uint flags;
    uint next_at, next_ld; /* in floats */
    uint gather_at;        /* word of the step block: which rows of the input */
    Part part[3];
};

#define FLAG_NORM        1u  /* f from the sum of squares of the norm's input */
#define FLAG_FACTOR      2u  /* f is ready in the norm's input, one float per row */
#define FLAG_ADD         4u  /* out += y */
#define FLAG_NEXT        8u  /* store y * next_norm as well */
#define FLAG_GATHER      16u /* columns are the rows that want logits */
#define FLAG_BIAS        32u /* << part */

const uint K_LANES = T / (ROW_LANES * SPLIT);

float silu_mul(float g, float u) {
    precise float y = (g / (1.0 + exact_exp(-g))) * u;
    return y;
}

float bias_of(uint i, uint row) { return i == 0u ? bias0[row] : i == 1u ? bias1[row] : bias2[row]; }

/* This lane's part of the work. */
uint n_columns, col0;    /* rows of the step that are multiplied; the first of this workgroup's */
uint i_part, group;      /* group within the part; may lie beyond its end */
uint n_groups, last_row; /* of the part; row of this lane's group at which storing ends */

/* False when nothing is left for this workgroup. */
bool find_place(uint t) {
    n_columns = (flags & FLAG_GATHER) != 0u ? N_LOGITS : N_ROWS;
    col0 = gl_WorkGroupID.y * COLS;
    if (col0 >= n_columns) return false;
    i_part = 0;
    if (PAIR == 0u && gl_WorkGroupID.x >= part[1].first) {
        i_part = gl_WorkGroupID.x >= part[2].first ? 2u : 1u;
    }
    n_groups = (part[i_part].n_rows + ROWS - 1u) / ROWS;
    uint place = t / SPLIT;
    group = (gl_WorkGroupID.x - part[i_part].first) * ROW_LANES + place % ROW_LANES;
    /* all lanes take part in the sums; those of the first K lane store */
    bool stores = place < ROW_LANES && group < n_groups;
    last_row = stores ? part[i_part].row0 + part[i_part].n_rows : 0u;
    return true;
}


uint in_row(uint c) {
    uint i = min(c, n_columns - 1u);
    return (flags & FLAG_GATHER) != 0u ? step_word[gather_at + i] : i;
}

void store_row(uint row, uint col, float value, float up_value) {
    if (row >= last_row) return;
    precise float y = value, up = up_value;
    if ((flags & FLAG_BIAS << i_part) != 0u) y = y + bias_of(i_part, row);
    if (PAIR != 0u) {
        if ((flags & FLAG_BIAS << 1) != 0u) up = up + bias1[row];
        y = silu_mul(y, up);
    }
    uint at = part[i_part].out_at + col * part[i_part].out_ld + row;
    if ((flags & FLAG_ADD) != 0u) y = result[at] + y;
    result[at] = y;
    if ((flags & FLAG_NEXT) != 0u) result[next_at + col * next_ld + row] = y * next_norm[row];
}

/* The four rows of this lane's group. */
void store_rows(uint col, vec4 y, vec4 up) {
    uint row = part[i_part].row0 + group * ROWS;
    for (uint r = 0u; r < ROWS; r++) store_row(row + r, col, y[r], up[r]);
}
