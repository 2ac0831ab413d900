/* One block of graph attention: weights exp(leaky_relu(dst + src) - shift) per arc and head, never stored for more
 * than ARCS arcs. A template over REAL, ID, EXP, WIDEST and NAME.
 *
 * Everything is a weighted sum of gathered rows; no product of two rows is taken per arc. With w the weights, s their
 * slopes, x the sources' rows, g and q the gradients of the sum and of the weight:
 *
 *     forward        sum[r] = sum_c w x[c]                  weight[r] = sum_c w
 *     destinations   dst[r] = <g[r], sum_c s w x[c]> + q[r] sum_c s w
 *     sources        x'[c] = sum_r w g[r]                   src[c] = <x[c], sum_r s w g[r]> + sum_r s w q[r]
 */

#define ARCS 64 /* arcs whose weights are computed together */
#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
#define GROUP (WIDEST > 8 ? 8 : WIDEST) /* vectors summed at once, twice of them for sources */

enum NAME(pass) { NAME(FORWARD), NAME(DESTINATIONS), NAME(SOURCES) };

typedef struct {
    const ID *indptr, *indices;
    int64_t num_rows, heads, width;
    const REAL *row_score, *col_score; /* of this block's rows and columns; of SOURCES the rows are sources */
    const REAL *col_x; /* [columns, heads, width], what is summed */
    const REAL *row_x; /* [rows, heads, width], what the second sum is multiplied with; null in FORWARD */
    const REAL *shift, *grad_weight; /* of the destinations */
    double slope;
    REAL *out, *out_score; /* [rows, heads, width], not of DESTINATIONS; [rows, heads] */
    int64_t kind; /* which pass */
    int64_t threads;
} NAME(attention_task);

typedef REAL NAME(wide) __attribute__((vector_size(VECTOR_BYTES)));

/* A thread's scratch. Of ARCS arcs and their heads, rounded up to whole vectors: weights, weights times slopes, shifts
 * and weight gradients as gathered, the row's own scores and shift repeated. Then a second sum [heads, width], weights
 * of one arc spread to [heads, width], where each vector of a row starts, and its head. */
typedef struct {
    REAL *weights, *slanted, *shifts, *grads, *own, *second, *spread;
    int64_t *start;
    int32_t *head;
    int64_t vectors;
    int spreads; /* heads narrower than a vector: weights are spread over the row */
} NAME(scratch);

/* Its pointers are null where there is no memory for it. */
static NAME(scratch) NAME(make_scratch)(const NAME(attention_task) *task) {
    const int64_t heads = task->heads, width = task->width, row = heads * width;
    NAME(scratch) s = {0};
    const int64_t padded = (ARCS * heads + LANES - 1) / LANES * LANES;
    s.weights = calloc((size_t)(5 * padded + 2 * row + 1), sizeof(REAL)); /* padding must be numbers */
    if (!s.weights) return s;
    s.slanted = s.weights + padded;
    s.shifts = s.slanted + padded;
    s.grads = s.shifts + padded;
    s.own = s.grads + padded;
    s.second = s.own + padded;
    s.spread = s.second + row;
    s.spreads = width < LANES;
    const int64_t groups = s.spreads ? 1 : heads, length = s.spreads ? row : width;
    const int64_t each = (length + LANES - 1) / LANES;
    s.vectors = length < LANES ? 0 : groups * each;
    s.start = malloc((size_t)(s.vectors + 1) * (sizeof(int64_t) + sizeof(int32_t)));
    if (!s.start) {
        free(s.weights);
        return (NAME(scratch)){0};
    }
    s.head = (int32_t *)(s.start + s.vectors + 1);
    for (int64_t v = 0; v < s.vectors; v++) { /* the last of a head may overlap the one before it: both agree */
        const int64_t within = v % each * LANES;
        s.start[v] = v / each * length + (within + LANES > length ? length - LANES : within);
        s.head[v] = (int32_t)(v / each);
    }
    return s;
}

static void NAME(drop_scratch)(NAME(scratch) s) {
    free(s.weights);
    free(s.start);
}

/* A row's own scores and shift, repeated as far as weigh_arcs reads them. */
INLINE void NAME(repeat_own)(const NAME(attention_task) *task, int64_t r, int64_t arcs, const int64_t heads,
                             const int pass, NAME(scratch) *s) {
    const int64_t count = LANES % heads == 0 ? LANES : (arcs < ARCS ? arcs : ARCS) * heads;
    for (int64_t i = 0; i < count; i += heads) {
        memcpy(s->own + i, task->row_score + r * heads, (size_t)heads * sizeof(REAL));
        if (pass != NAME(SOURCES)) memcpy(s->shifts + i, task->shift + r * heads, (size_t)heads * sizeof(REAL));
    }
}

/* Weights of arcs [first, first + arcs) of a row; their sums are added to total [heads]. First everything is gathered,
 * then computed in whole vectors. */
INLINE void NAME(weigh_arcs)(const NAME(attention_task) *task, int64_t first, int64_t arcs, const int64_t heads,
                             const int pass, NAME(scratch) *s, REAL *restrict total) {
    REAL *restrict weights = s->weights, *restrict slanted = s->slanted;
    REAL *restrict shifts = s->shifts, *restrict grads = s->grads;
    const REAL *restrict own = s->own, negative = (REAL)task->slope;
    const int64_t count = arcs * heads;
    const int repeats = LANES % heads == 0; /* one vector holds whole sets of heads */
    for (int64_t a = 0; a < arcs; a++) {
        const int64_t c = (int64_t)task->indices[first + a] * heads;
        memcpy(weights + a * heads, task->col_score + c, (size_t)heads * sizeof(REAL));
        if (pass == NAME(SOURCES)) {
            memcpy(shifts + a * heads, task->shift + c, (size_t)heads * sizeof(REAL));
            memcpy(grads + a * heads, task->grad_weight + c, (size_t)heads * sizeof(REAL));
        }
    }
    for (int64_t i = 0; i < count; i += LANES) {
        const REAL *restrict from = own + (repeats ? 0 : i);
        const REAL *restrict shift = shifts + (repeats && pass != NAME(SOURCES) ? 0 : i);
        for (int j = 0; j < LANES; j++) {
            const REAL score = from[j] + weights[i + j];
            const REAL slope = score > 0 ? (REAL)1 : negative;
            const REAL weight = EXP(score * slope - shift[j]);
            weights[i + j] = weight;
            if (pass != NAME(FORWARD)) slanted[i + j] = slope * weight;
        }
    }
    for (int64_t i = 0; i < count; i += heads)
        for (int64_t h = 0; h < heads; h++) {
            if (pass == NAME(FORWARD)) total[h] += weights[i + h];
            if (pass == NAME(DESTINATIONS)) total[h] += slanted[i + h];
            if (pass == NAME(SOURCES)) total[h] += slanted[i + h] * grads[i + h];
        }
}

/* one += a x, and other += b x when there is another; `count` vectors from the `first`-th of each row. */
INLINE void NAME(add_rows)(const NAME(attention_task) *task, const NAME(scratch) *s, int64_t from, int64_t arcs,
                           int64_t first, const int count, const REAL *a, REAL *one, const REAL *b, REAL *other,
                           const int two) {
    const int64_t heads = task->heads, row = heads * task->width, *start = s->start + first;
    const int32_t *head = s->head + first;
    NAME(wide) sum[8], second[8];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        memcpy(&sum[i], one + start[i], sizeof sum[i]);
        if (two) memcpy(&second[i], other + start[i], sizeof second[i]);
    }
    for (int64_t e = 0; e < arcs; e++) {
        const REAL *x = task->col_x + row * (int64_t)task->indices[from + e];
#pragma GCC unroll 8
        for (int i = 0; i < count; i++) {
            NAME(wide) value;
            memcpy(&value, x + start[i], sizeof value);
            sum[i] += a[e * heads + head[i]] * value;
            if (two) second[i] += b[e * heads + head[i]] * value;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        memcpy(one + start[i], &sum[i], sizeof sum[i]);
        if (two) memcpy(other + start[i], &second[i], sizeof second[i]);
    }
}

/* The same for heads narrower than a vector, an arc at a time. */
static __attribute__((noinline)) void NAME(add_narrow)(const NAME(attention_task) *task, const NAME(scratch) *s, int64_t from, int64_t arcs,
                             const REAL *a, REAL *restrict to) {
    const int64_t heads = task->heads, width = task->width, row = heads * width;
    REAL *restrict spread = s->spread;
    for (int64_t e = 0; e < arcs; e++) {
        const REAL *restrict x = task->col_x + row * (int64_t)task->indices[from + e];
        for (int64_t h = 0; h < heads; h++)
            for (int64_t c = 0; c < width; c++) spread[h * width + c] = a[e * heads + h];
        for (int64_t c = 0; c < row; c++) to[c] += spread[c] * x[c];
    }
}

#define ADD_CASE(n)                                                                                  \
    case n:                                                                                          \
        if (two) NAME(add_rows)(task, s, from, arcs, first, n, a, one, b, other, 1);                 \
        else NAME(add_rows)(task, s, from, arcs, first, n, a, one, b, other, 0);                     \
        break;

static __attribute__((noinline)) void NAME(add_arcs)(const NAME(attention_task) *task, const NAME(scratch) *s, int64_t from, int64_t arcs,
                           const REAL *a, REAL *one, const REAL *b, REAL *other) {
    const int two = b != NULL;
    if (s->spreads) {
        NAME(add_narrow)(task, s, from, arcs, a, one);
        if (two) NAME(add_narrow)(task, s, from, arcs, b, other);
        return;
    }
    for (int64_t first = 0, count; first < s->vectors; first += count) {
        count = s->vectors - first < GROUP ? s->vectors - first : GROUP;
        const int64_t next = first + count; /* two vectors that overlap must be summed at once */
        if (next < s->vectors && s->start[next] - s->start[next - 1] < LANES) count--;
        switch (count) {
            ADD_CASE(1) ADD_CASE(2) ADD_CASE(3) ADD_CASE(4)
#if WIDEST > 4
            ADD_CASE(5) ADD_CASE(6) ADD_CASE(7) ADD_CASE(8)
#endif
        }
    }
}

#undef ADD_CASE

INLINE void NAME(attend_row)(const NAME(attention_task) *task, int64_t r, const int64_t heads, const int pass,
                             NAME(scratch) *s) {
    const int64_t width = task->width, row = heads * width, stop = task->indptr[r + 1];
    REAL *total = task->out_score + r * heads, *out = pass == NAME(DESTINATIONS) ? NULL : task->out + r * row;
    memset(total, 0, (size_t)heads * sizeof(REAL));
    if (out) memset(out, 0, (size_t)row * sizeof(REAL));
    if (pass != NAME(FORWARD)) memset(s->second, 0, (size_t)row * sizeof(REAL));
    if (task->indptr[r] == stop) return; /* what is multiplied with no sum may be NaN */
    NAME(repeat_own)(task, r, stop - task->indptr[r], heads, pass, s);
    for (int64_t first = task->indptr[r]; first < stop; first += ARCS) {
        const int64_t arcs = stop - first < ARCS ? stop - first : ARCS;
        NAME(weigh_arcs)(task, first, arcs, heads, pass, s, total);
        if (pass == NAME(FORWARD)) NAME(add_arcs)(task, s, first, arcs, s->weights, out, NULL, NULL);
        if (pass == NAME(DESTINATIONS)) NAME(add_arcs)(task, s, first, arcs, s->slanted, s->second, NULL, NULL);
        if (pass == NAME(SOURCES)) NAME(add_arcs)(task, s, first, arcs, s->weights, out, s->slanted, s->second);
    }
    if (pass == NAME(FORWARD)) return;
    for (int64_t h = 0; h < heads; h++) {
        const REAL *own = task->row_x + r * row + h * width;
        if (pass == NAME(DESTINATIONS)) total[h] *= task->grad_weight[r * heads + h];
        total[h] += ROW_SUM(own, s->second + h * width, width);
    }
}

INLINE void NAME(attend_rows)(const NAME(attention_task) *task, int64_t begin, int64_t end, const int64_t heads,
                              NAME(scratch) *s) {
    for (int64_t r = begin; r < end; r++) {
#if WIDEST > 4 /* a version for each pass */
        if (task->kind == NAME(FORWARD)) NAME(attend_row)(task, r, heads, NAME(FORWARD), s);
        if (task->kind == NAME(DESTINATIONS)) NAME(attend_row)(task, r, heads, NAME(DESTINATIONS), s);
        if (task->kind == NAME(SOURCES)) NAME(attend_row)(task, r, heads, NAME(SOURCES), s);
#else
        NAME(attend_row)(task, r, heads, task->kind, s);
#endif
    }
}

int64_t NAME(attention)(const NAME(attention_task) *task) {
    int64_t failed = 0;
    if (!task->heads) return DONE;
#pragma omp parallel num_threads(task->threads) reduction(| : failed) if (task->threads > 1)
    {
        NAME(scratch) s = NAME(make_scratch)(task);
        failed = !s.weights;
#pragma omp for schedule(dynamic, 1)
        for (int64_t begin = 0; begin < task->num_rows; begin += 64) {
            if (failed) continue;
            const int64_t end = begin + 64 < task->num_rows ? begin + 64 : task->num_rows;
#if WIDEST > 4 /* the number of heads known: small loops become straight lines */
            if (task->heads == 1) NAME(attend_rows)(task, begin, end, 1, &s);
            else if (task->heads == 4) NAME(attend_rows)(task, begin, end, 4, &s);
            else if (task->heads == 8) NAME(attend_rows)(task, begin, end, 8, &s);
            else
#endif
            NAME(attend_rows)(task, begin, end, task->heads, &s);
        }
        NAME(drop_scratch)(s);
    }
    return failed ? NO_MEMORY : DONE;
}

/* Of one row; a maximum alone would lose what is NaN. */
INLINE void NAME(max_row)(const ID *indices, int64_t first, int64_t stop, const REAL *x, int64_t heads, REAL *top,
                          const int ordered) {
    for (int64_t h = 0; h < heads; h++) top[h] = -(REAL)INFINITY;
    for (int64_t e = first; e < stop; e++)
        for (int64_t h = 0; h < heads; h++) {
            const REAL value = x[(int64_t)indices[e] * heads + h];
            if (ordered) top[h] = value > top[h] ? value : top[h];
            else if (value > top[h] || value != value) top[h] = value;
        }
}

/* Largest of x [C, heads] over each row's columns, NaN if one is; -inf for an empty row. */
int64_t NAME(row_max)(const ID *indptr, const ID *indices, int64_t num_rows, int64_t num_cols, const REAL *x,
                      int64_t heads, REAL *out, int64_t threads) {
    int ordered = 1;
    for (int64_t i = 0; i < num_cols * heads; i++) ordered &= x[i] == x[i];
#pragma omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1)
    for (int64_t r = 0; r < num_rows; r++) {
        REAL *top = out + r * heads;
        if (ordered) NAME(max_row)(indices, indptr[r], indptr[r + 1], x, heads, top, 1);
        else NAME(max_row)(indices, indptr[r], indptr[r + 1], x, heads, top, 0);
    }
    return DONE;
}

#undef ARCS
#undef LANES
#undef GROUP
