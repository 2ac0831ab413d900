/* One block of graph attention: weights exp(leaky_relu(dst + src) - shift) per arc and head, never stored for more
 * than ARCS arcs. A template over REAL, ID, EXP,
 * ROW_SUM (of native_dense.h) and NAME. */

#define ARCS 32 /* arcs whose weights are computed together: their rows still fit into the first cache level */

typedef struct {
    const ID *indptr, *indices;
    int64_t num_rows, heads, width;
    /* of the rows of this block, then of its columns */
    const REAL *row_score, *col_score, *row_x, *col_x;
    const REAL *shift, *grad_weight; /* of the destination, which are the rows unless `swapped` */
    REAL slope;
    REAL *out, *out_score; /* [rows, heads, width], [rows, heads] */
    int swapped;
    int threads;
} NAME(attention_task);

/* Weights [arcs, heads] of arcs [first, first + arcs) of row r, and the slope of the leaky ReLU at each. */
INLINE void NAME(arc_weights)(const NAME(attention_task) *task, int64_t r, int64_t first, int64_t arcs,
                              REAL *restrict weights, REAL *restrict slopes) {
    const int64_t heads = task->heads;
    const REAL *own = task->row_score + r * heads;
    for (int64_t a = 0; a < arcs; a++) {
        const int64_t c = task->indices[first + a];
        const REAL *other = task->col_score + c * heads;
        const REAL *shift = task->shift + (task->swapped ? c : r) * heads;
        for (int64_t h = 0; h < heads; h++) {
            const REAL score = own[h] + other[h];
            const REAL slope = score > 0 ? (REAL)1 : task->slope;
            slopes[a * heads + h] = slope;
            weights[a * heads + h] = score * slope - shift[h];
        }
    }
    for (int64_t i = 0; i < arcs * heads; i++) weights[i] = EXP(weights[i]);
}

INLINE void NAME(add_scaled)(REAL *restrict to, const REAL *restrict from, REAL scale, int64_t width) {
    for (int64_t c = 0; c < width; c++) to[c] += scale * from[c];
}

/* out = sum of weight * col_x, out_score = sum of weights. */
static void NAME(attend_row)(const NAME(attention_task) *task, int64_t r, REAL *weights, REAL *slopes) {
    const int64_t heads = task->heads, width = task->width, stop = task->indptr[r + 1];
    REAL *out = task->out + r * heads * width, *total = task->out_score + r * heads;
    memset(out, 0, (size_t)(heads * width) * sizeof(REAL));
    memset(total, 0, (size_t)heads * sizeof(REAL));
    for (int64_t first = task->indptr[r]; first < stop; first += ARCS) {
        const int64_t arcs = stop - first < ARCS ? stop - first : ARCS;
        NAME(arc_weights)(task, r, first, arcs, weights, slopes);
        for (int64_t a = 0; a < arcs; a++) {
            const REAL *x = task->col_x + (int64_t)task->indices[first + a] * heads * width;
            for (int64_t h = 0; h < heads; h++) {
                const REAL weight = weights[a * heads + h];
                total[h] += weight;
                NAME(add_scaled)(out + h * width, x + h * width, weight, width);
            }
        }
    }
}

/* out_score = gradient of the rows' scores; with `swapped` (rows are sources) out = gradient of their x as well. */
static void NAME(attend_row_backward)(const NAME(attention_task) *task, int64_t r, REAL *weights, REAL *slopes) {
    const int64_t heads = task->heads, width = task->width, stop = task->indptr[r + 1];
    REAL *total = task->out_score + r * heads;
    memset(total, 0, (size_t)heads * sizeof(REAL));
    if (task->swapped) memset(task->out + r * heads * width, 0, (size_t)(heads * width) * sizeof(REAL));
    for (int64_t first = task->indptr[r]; first < stop; first += ARCS) {
        const int64_t arcs = stop - first < ARCS ? stop - first : ARCS;
        NAME(arc_weights)(task, r, first, arcs, weights, slopes);
        for (int64_t a = 0; a < arcs; a++) {
            const int64_t c = task->indices[first + a];
            const REAL *grad_weight = task->grad_weight + (task->swapped ? c : r) * heads;
            for (int64_t h = 0; h < heads; h++) {
                const REAL *other = task->col_x + (c * heads + h) * width;
                const REAL product = ROW_SUM(other, task->row_x + (r * heads + h) * width, width);
                const REAL weight = weights[a * heads + h];
                total[h] += weight * slopes[a * heads + h] * (grad_weight[h] + product);
                if (task->swapped) NAME(add_scaled)(task->out + (r * heads + h) * width, other, weight, width);
            }
        }
    }
}

static void NAME(attend)(const NAME(attention_task) *task, const int backward) {
#pragma omp parallel num_threads(task->threads) if (task->threads > 1)
    {
        REAL *scratch = malloc(2 * ARCS * (size_t)task->heads * sizeof(REAL));
#pragma omp for schedule(dynamic, 64)
        for (int64_t r = 0; r < task->num_rows; r++) {
            if (backward) NAME(attend_row_backward)(task, r, scratch, scratch + ARCS * task->heads);
            else NAME(attend_row)(task, r, scratch, scratch + ARCS * task->heads);
        }
        free(scratch);
    }
}

void NAME(attention_forward)(const NAME(attention_task) *task) { NAME(attend)(task, 0); }

void NAME(attention_backward)(const NAME(attention_task) *task) { NAME(attend)(task, 1); }

/* Largest of x [C, heads] over each row's columns; -inf for an empty row. */
void NAME(row_max)(const ID *indptr, const ID *indices, int64_t num_rows, const REAL *x, int64_t heads, REAL *out,
                   int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1)
    for (int64_t r = 0; r < num_rows; r++) {
        for (int64_t h = 0; h < heads; h++) out[r * heads + h] = -(REAL)INFINITY;
        for (int64_t e = indptr[r]; e < indptr[r + 1]; e++)
            for (int64_t h = 0; h < heads; h++) {
                const REAL value = x[(int64_t)indices[e] * heads + h];
                if (value > out[r * heads + h]) out[r * heads + h] = value;
            }
    }
}

#undef ARCS
