/* Elementwise passes over [N, F]: dropout, ReLU, layer norm, and their backwards. A template over REAL and NAME.
 * Masks are drawn again in backward; see random_block. A row is worked on while it is in the first cache level. */

#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
#define CHUNK 512 /* rows of one partial sum of weight gradients: fixed, so that threads do not change the result */

/* out = keep ? x * scale : 0; with relu also 0 where x <= 0: what is not a number stays one. One row. */
INLINE void NAME(drop_row)(const REAL *x, REAL *out, int64_t columns, uint64_t state, int32_t levels, REAL scale,
                           const int relu) {
    int64_t c = 0;
    int32_t bits[BITS_BLOCK];
    for (; c + BITS_BLOCK <= columns; c += BITS_BLOCK) {
        random_block(state, c / BITS_BLOCK, bits);
#pragma GCC ivdep
        for (int i = 0; i < BITS_BLOCK; i++) { /* out may be x, never a shifted x */
            const REAL value = x[c + i];
            out[c + i] = bits[i] < levels && !(relu && value <= 0) ? value * scale : (REAL)0;
        }
    }
    if (c < columns) {
        random_block(state, c / BITS_BLOCK, bits);
        for (int i = 0; i < (int)(columns - c); i++) {
            const REAL value = x[c + i];
            out[c + i] = bits[i] < levels && !(relu && value <= 0) ? value * scale : (REAL)0;
        }
    }
}

int64_t NAME(dropout)(const REAL *x, REAL *out, int64_t rows, int64_t columns, const int64_t *node_ids, int64_t key,
                      int64_t levels, double scale, int64_t relu, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t r = 0; r < rows; r++) {
        const uint64_t state = row_state(key, node_ids[r]);
        const REAL *from = x + r * columns;
        REAL *to = out + r * columns;
        if (relu) NAME(drop_row)(from, to, columns, state, (int32_t)levels, (REAL)scale, 1);
        else NAME(drop_row)(from, to, columns, state, (int32_t)levels, (REAL)scale, 0);
    }
    return DONE;
}

int64_t NAME(relu_dropout_backward)(const REAL *grad, const REAL *output, REAL *out, int64_t entries, double scale,
                                    int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t first = 0; first < entries; first += 4096) {
        const int64_t stop = first + 4096 < entries ? first + 4096 : entries;
#pragma GCC ivdep
        for (int64_t i = first; i < stop; i++) { /* out may be grad, never a shifted grad */
            const REAL scaled = grad[i] * (REAL)scale;
            out[i] = output[i] <= 0 ? (REAL)0 : scaled; /* as of torch's ReLU, also where the output is NaN */
        }
    }
    return DONE;
}

/* Sum over a row of a[c] * b[c], or of a[c] when b is null: lane by lane, then the lanes in order. */
INLINE REAL NAME(row_sum)(const REAL *a, const REAL *b, int64_t columns) {
    typedef REAL vector __attribute__((vector_size(VECTOR_BYTES)));
    vector total = {0};
    int64_t c = 0;
    for (; c + LANES <= columns; c += LANES) {
        vector u, v;
        memcpy(&u, a + c, sizeof u);
        if (b) {
            memcpy(&v, b + c, sizeof v);
            u *= v;
        }
        total += u;
    }
    REAL sum = 0;
    for (int i = 0; i < LANES; i++) sum += total[i];
    for (; c < columns; c++) sum += b ? a[c] * b[c] : a[c];
    return sum;
}

typedef struct {
    const REAL *grad; /* backward only */
    const REAL *x;
    REAL *out, *mean, *rstd;
    const REAL *weight, *bias; /* may be null */
    REAL *grad_weight, *grad_bias; /* [chunks, F] zeros, or null; the first row becomes the sum */
    const int64_t *node_ids;
    int64_t rows, columns, key, levels;
    double eps, scale;
    int64_t threads;
} NAME(norm_task);

static void NAME(norm_row)(const NAME(norm_task) *task, int64_t r, REAL *restrict centred) {
    const int64_t columns = task->columns;
    const REAL *x = task->x + r * columns;
    const REAL mean = NAME(row_sum)(x, NULL, columns) / (REAL)columns;
    for (int64_t c = 0; c < columns; c++) centred[c] = x[c] - mean;
    const REAL variance = NAME(row_sum)(centred, centred, columns) / (REAL)columns;
    const REAL rstd = (REAL)1 / (REAL)sqrt(variance + (REAL)task->eps);
    for (int64_t c = 0; c < columns; c++) {
        REAL value = centred[c] * rstd;
        if (task->weight) value *= task->weight[c];
        centred[c] = task->bias ? value + task->bias[c] : value;
    }
    task->mean[r] = mean;
    task->rstd[r] = rstd;
    REAL *out = task->out + r * columns;
    if (task->levels < LEVELS) {
        const uint64_t state = row_state(task->key, task->node_ids[r]);
        NAME(drop_row)(centred, out, columns, state, (int32_t)task->levels, (REAL)task->scale, 1);
    } else {
        for (int64_t c = 0; c < columns; c++) out[c] = centred[c] <= 0 ? (REAL)0 : centred[c];
    }
}

int64_t NAME(norm_forward)(const NAME(norm_task) *task) {
    int64_t failed = 0;
#pragma omp parallel num_threads(task->threads) reduction(| : failed) if (task->threads > 1)
    {
        REAL *centred = malloc((size_t)task->columns * sizeof(REAL));
        failed = !centred;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < task->rows; r++)
            if (!failed) NAME(norm_row)(task, r, centred);
        free(centred);
    }
    return failed ? NO_MEMORY : DONE;
}

/* grad of one row; `inner` and `normed` are scratch rows, weight and bias gradients are added to the partial sums. */
static void NAME(norm_row_backward)(const NAME(norm_task) *task, int64_t r, REAL *restrict inner,
                                    REAL *restrict normed, REAL *restrict grad_weight, REAL *restrict grad_bias) {
    const int64_t columns = task->columns;
    const REAL *x = task->x + r * columns, *weight = task->weight, *bias = task->bias;
    const REAL mean = task->mean[r], rstd = task->rstd[r];
    for (int64_t c = 0; c < columns; c++) normed[c] = (x[c] - mean) * rstd;
    if (task->levels < LEVELS) {
        const uint64_t state = row_state(task->key, task->node_ids[r]);
        NAME(drop_row)(task->grad + r * columns, inner, columns, state, (int32_t)task->levels, (REAL)task->scale, 0);
    } else {
        memcpy(inner, task->grad + r * columns, (size_t)columns * sizeof(REAL));
    }
    for (int64_t c = 0; c < columns; c++) {
        REAL value = normed[c];
        if (weight) value *= weight[c];
        if (bias) value += bias[c];
        inner[c] = value <= 0 ? (REAL)0 : inner[c];
    }
    if (grad_weight)
        for (int64_t c = 0; c < columns; c++) grad_weight[c] += inner[c] * normed[c];
    if (grad_bias)
        for (int64_t c = 0; c < columns; c++) grad_bias[c] += inner[c];
    if (weight)
        for (int64_t c = 0; c < columns; c++) inner[c] *= weight[c];
    const REAL level = NAME(row_sum)(inner, NULL, columns) / (REAL)columns;
    const REAL slant = NAME(row_sum)(inner, normed, columns) / (REAL)columns;
    REAL *out = task->out + r * columns;
    for (int64_t c = 0; c < columns; c++) out[c] = (inner[c] - level - normed[c] * slant) * rstd;
}

/* How many partial sums norm_backward makes. */
int64_t NAME(norm_chunks)(int64_t rows) { return (rows + CHUNK - 1) / CHUNK; }

int64_t NAME(norm_backward)(const NAME(norm_task) *task) {
    const int64_t chunks = NAME(norm_chunks)(task->rows), columns = task->columns;
    int64_t failed = 0;
#pragma omp parallel num_threads(task->threads) reduction(| : failed) if (task->threads > 1)
    {
        REAL *scratch = malloc(2 * (size_t)columns * sizeof(REAL));
        failed = !scratch;
#pragma omp for schedule(static)
        for (int64_t k = 0; k < chunks; k++) {
            REAL *grad_weight = task->grad_weight ? task->grad_weight + k * columns : NULL;
            REAL *grad_bias = task->grad_bias ? task->grad_bias + k * columns : NULL;
            const int64_t end = (k + 1) * CHUNK < task->rows ? (k + 1) * CHUNK : task->rows;
            for (int64_t r = k * CHUNK; r < end && !failed; r++)
                NAME(norm_row_backward)(task, r, scratch, scratch + columns, grad_weight, grad_bias);
        }
        free(scratch);
    }
    for (int64_t k = 1; k < chunks; k++) /* in order, into the first */
        for (int64_t c = 0; c < columns; c++) {
            if (task->grad_weight) task->grad_weight[c] += task->grad_weight[k * columns + c];
            if (task->grad_bias) task->grad_bias[c] += task->grad_bias[k * columns + c];
        }
    return failed ? NO_MEMORY : DONE;
}

#undef LANES
#undef CHUNK
