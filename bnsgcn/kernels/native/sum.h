/* Row sums of a block. A template over REAL, ID, NAME, WIDEST (vectors summed at once, at most MAX_VECTORS), and ROW, the
 * format of rows, with WIDEN and NARROW between it and REAL; HALF where it is bf16: sums are REAL, and are rounded once.
 *
 * A row is summed in up to WIDEST registers at a time. When the columns do not fill the last vector, that
 * vector overlaps the one before it: both compute the same numbers, so no scalar tail is needed. */

#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
typedef REAL NAME(vector) __attribute__((vector_size(VECTOR_BYTES)));

#ifdef HALF
typedef uint32_t NAME(words) __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t NAME(halves) __attribute__((vector_size(VECTOR_BYTES / 2)));

INLINE NAME(vector) NAME(load)(const ROW *from) {
    NAME(halves) half;
    memcpy(&half, from, sizeof half);
    const NAME(words) word = __builtin_convertvector(half, NAME(words)) << 16;
    NAME(vector) v;
    memcpy(&v, &word, sizeof v);
    return v;
}

/* As f32_to_bf16. */
INLINE void NAME(store)(ROW *to, NAME(vector) v) {
    NAME(words) word;
    memcpy(&word, &v, sizeof word);
    const NAME(words) number = (NAME(words))(v == v);
    word = (word + 0x7FFFu + ((word >> 16) & 1u)) >> 16;
    word = (word & number) | (0x7FC0u & ~number);
    const NAME(halves) half = __builtin_convertvector(word, NAME(halves));
    memcpy(to, &half, sizeof half);
}
#else
INLINE NAME(vector) NAME(load)(const ROW *from) {
    NAME(vector) v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void NAME(store)(ROW *to, NAME(vector) v) { memcpy(to, &v, sizeof v); }
#endif

typedef struct {
    const ID *indptr, *indices;
    int64_t num_rows, num_arcs;
    const ROW *x;
    int64_t x_stride, columns;
    const REAL *row_scale, *col_scale; /* may be null */
    const float *weights;              /* of the arcs; may be null */
    ROW *out;
    int64_t out_stride, accumulate;
    int64_t prefetch; /* arcs ahead; 0 = none */
    int64_t rows_at_once, threads;
} NAME(sum_task);

enum { NAME(PLAIN), NAME(SCALED), NAME(WEIGHTED) };

/* Columns [first, first + width) of rows [begin, end), in `count` vectors; `kind` says what an arc is scaled by. */
INLINE void NAME(sum_columns)(const NAME(sum_task) *task, int64_t begin, int64_t end, int64_t first, int64_t width,
                              const int count, const int kind) {
    const ID *restrict indices = task->indices;
    const ROW *restrict x = task->x + first;
    const int64_t last = width - LANES, stride = task->x_stride, final_arc = task->num_arcs - 1;
    const int64_t ahead = task->prefetch;
    for (int64_t r = begin; r < end; r++) {
        NAME(vector) sum[WIDEST];
#pragma GCC unroll 16
        for (int i = 0; i < count; i++) sum[i] = (NAME(vector)){0};
        const int64_t stop = task->indptr[r + 1];
        for (int64_t e = task->indptr[r]; e < stop; e++) {
            if (ahead) {
                const char *next = (const char *)(x + stride * (int64_t)indices[e + ahead < final_arc ? e + ahead : final_arc]);
#pragma GCC unroll 16
                for (int64_t line = 0; line < (int64_t)count * LANES * (int64_t)sizeof(ROW); line += 64)
                    __builtin_prefetch(next + line);
            }
            const ROW *row = x + stride * (int64_t)indices[e];
            if (kind != NAME(PLAIN)) {
                REAL scale = kind == NAME(SCALED) || task->col_scale ? task->col_scale[indices[e]] : (REAL)1;
                if (kind == NAME(WEIGHTED)) scale *= (REAL)task->weights[e];
#pragma GCC unroll 16
                for (int i = 0; i < count - 1; i++) sum[i] += scale * NAME(load)(row + i * LANES);
                sum[count - 1] += scale * NAME(load)(row + last);
            } else {
#pragma GCC unroll 16
                for (int i = 0; i < count - 1; i++) sum[i] += NAME(load)(row + i * LANES);
                sum[count - 1] += NAME(load)(row + last);
            }
        }
        ROW *out = task->out + r * task->out_stride + first;
        const REAL scale = task->row_scale ? task->row_scale[r] : (REAL)1;
        if (task->row_scale) {
#pragma GCC unroll 16
            for (int i = 0; i < count; i++) sum[i] *= scale;
        }
        if (task->accumulate) { /* all loads before any store: the last two vectors may overlap */
            sum[count - 1] += NAME(load)(out + last);
#pragma GCC unroll 16
            for (int i = 0; i < count - 1; i++) sum[i] += NAME(load)(out + i * LANES);
        }
#pragma GCC unroll 16
        for (int i = 0; i < count - 1; i++) NAME(store)(out + i * LANES, sum[i]);
        NAME(store)(out + last, sum[count - 1]);
    }
}

#define SUM_CASE(n)                                                                                       \
    case n:                                                                                               \
        if (task->weights) NAME(sum_columns)(task, begin, end, first, width, n, NAME(WEIGHTED));          \
        else if (task->col_scale) NAME(sum_columns)(task, begin, end, first, width, n, NAME(SCALED));     \
        else NAME(sum_columns)(task, begin, end, first, width, n, NAME(PLAIN));                           \
        break;

static void NAME(sum_vectors)(const NAME(sum_task) *task, int64_t begin, int64_t end, int64_t first, int64_t width) {
    switch ((width + LANES - 1) / LANES) {
        SUM_CASE(1) SUM_CASE(2) SUM_CASE(3) SUM_CASE(4)
#if WIDEST > 4
        SUM_CASE(5) SUM_CASE(6) SUM_CASE(7) SUM_CASE(8)
#endif
#if WIDEST > 8
        SUM_CASE(9) SUM_CASE(10) SUM_CASE(11) SUM_CASE(12) SUM_CASE(13) SUM_CASE(14) SUM_CASE(15) SUM_CASE(16)
#endif
    }
}

#undef SUM_CASE

/* Fewer columns than a vector has lanes. */
static void NAME(sum_narrow)(const NAME(sum_task) *task, int64_t begin, int64_t end) {
    const int64_t columns = task->columns;
    for (int64_t r = begin; r < end; r++) {
        REAL sum[VECTOR_BYTES / sizeof(REAL)] = {0};
        for (int64_t e = task->indptr[r]; e < task->indptr[r + 1]; e++) {
            const ROW *row = task->x + task->x_stride * (int64_t)task->indices[e];
            REAL scale = task->col_scale ? task->col_scale[task->indices[e]] : (REAL)1;
            if (task->weights) scale *= (REAL)task->weights[e];
            for (int64_t c = 0; c < columns; c++) sum[c] += scale * WIDEN(row[c]);
        }
        ROW *out = task->out + r * task->out_stride;
        const REAL scale = task->row_scale ? task->row_scale[r] : (REAL)1;
        for (int64_t c = 0; c < columns; c++) {
            const REAL scaled = scale * sum[c];
            out[c] = NARROW(task->accumulate ? WIDEN(out[c]) + scaled : scaled);
        }
    }
}

int64_t NAME(sum_rows)(const NAME(sum_task) *task) {
    const int64_t step = task->rows_at_once;
#pragma omp parallel for num_threads(task->threads) schedule(dynamic, 1) if (task->threads > 1)
    for (int64_t begin = 0; begin < task->num_rows; begin += step) {
        const int64_t end = begin + step < task->num_rows ? begin + step : task->num_rows;
        if (task->columns < LANES) {
            NAME(sum_narrow)(task, begin, end);
            continue;
        }
        int64_t first = 0;
        while (first < task->columns) {
            int64_t width = task->columns - first;
            if (width > WIDEST * LANES) /* leave at least one vector for the last block */
                width = width - WIDEST * LANES < LANES ? (WIDEST - 1) * LANES : WIDEST * LANES;
            NAME(sum_vectors)(task, begin, end, first, width);
            first += width;
        }
    }
    return DONE;
}

#undef LANES
