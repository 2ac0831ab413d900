/* Rows by index, and the number formats in which rows travel. */

#define GATHER(name, FROM, TO, SCALE, CONVERT)                                                                     \
    int64_t name(const FROM *x, int64_t x_stride, const int64_t *index, const SCALE *scale, TO *out, int64_t rows,    \
              int64_t columns, int64_t threads) {                                                                      \
        _Pragma("omp parallel for num_threads(threads) schedule(static) if (threads > 1)")                         \
        for (int64_t s = 0; s < rows; s++) {                                                                       \
            const FROM *restrict from = x + x_stride * (index ? index[s] : s);                                     \
            TO *restrict to = out + s * columns;                                                                   \
            if (scale) {                                                                                           \
                const SCALE factor = scale[s];                                                                     \
                for (int64_t c = 0; c < columns; c++) to[c] = CONVERT(from[c] * factor);                           \
            } else {                                                                                               \
                for (int64_t c = 0; c < columns; c++) to[c] = CONVERT(from[c]);                                    \
            }                                                                                                      \
        }                                                                                                          \
        return DONE;                                                                                               \
    }

GATHER(gather_f32_f32, float, float, float, KEEP)
GATHER(gather_f64_f64, double, double, double, KEEP)
GATHER(gather_f32_bf16, float, bf16, float, f32_to_bf16)

#define ADD(to, value) ((to) + (value))
#define ADD_HALF(to, value) f32_to_bf16(bf16_to_f32(to) + (value))

/* Threads share the columns, not the rows: every entry is summed in the order of the list. */
#define SCATTER(name, FROM, TO, SCALE, WIDEN, ADD)                                                                 \
    int64_t name(TO *out, const int64_t *index, const FROM *rows, const SCALE *scale, int64_t count, int64_t columns, \
              int64_t threads) {                                                                                   \
        const int64_t slice = threads > 1 ? ((columns + threads - 1) / threads + 15) / 16 * 16 : columns;          \
        const int64_t slices = columns ? (columns + slice - 1) / slice : 0;                                        \
        _Pragma("omp parallel for num_threads(threads) schedule(static) if (threads > 1)")                         \
        for (int64_t k = 0; k < slices; k++) {                                                                     \
            const int64_t first = k * slice;                                                                       \
            const int64_t width = first + slice < columns ? slice : columns - first;                               \
            for (int64_t s = 0; s < count; s++) {                                                                  \
                const FROM *restrict from = rows + s * columns + first;                                            \
                TO *restrict to = out + index[s] * columns + first;                                                \
                if (scale) {                                                                                       \
                    const SCALE factor = scale[s];                                                                 \
                    for (int64_t c = 0; c < width; c++) to[c] = ADD(to[c], WIDEN(from[c]) * factor);               \
                } else {                                                                                           \
                    for (int64_t c = 0; c < width; c++) to[c] = ADD(to[c], WIDEN(from[c]));                        \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
        return DONE;                                                                                               \
    }

SCATTER(scatter_f32_f32, float, float, float, KEEP, ADD)
SCATTER(scatter_f64_f64, double, double, double, KEEP, ADD)
SCATTER(scatter_bf16_f32, bf16, float, float, bf16_to_f32, ADD)
SCATTER(scatter_bf16_bf16, bf16, bf16, float, bf16_to_f32, ADD_HALF)
SCATTER(scatter_i8_f32, int8_t, float, float, (float), ADD)

/* Rows x[index] as int8: floor(x * most / largest + u), u uniform in [0, 1) with 16 bits. The scale of a row with an
 * infinity or NaN is NaN, and so is the whole row when it is read. */
int64_t pack_i8(const float *x, int64_t x_stride, const int64_t *index, int64_t key, int64_t most, int8_t *out,
             float *scale, int64_t rows, int64_t columns, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t s = 0; s < rows; s++) {
        const float *restrict from = x + x_stride * (index ? index[s] : s);
        int8_t *restrict to = out + s * columns;
        int32_t top = 0; /* magnitudes order like their bits */
        for (int64_t c = 0; c < columns; c++) {
            int32_t word;
            memcpy(&word, from + c, 4);
            word &= 0x7FFFFFFF;
            top = word > top ? word : top;
        }
        if (top >= 0x7F800000) {
            scale[s] = NAN;
            memset(to, 0, (size_t)columns);
            continue;
        }
        float largest;
        memcpy(&largest, &top, 4);
        const float steps = largest > 0 ? ((float)most * LEVELS) / largest : 0.0f;
        const uint64_t state = row_state(key, s);
        scale[s] = largest / (float)most;
        for (int64_t c = 0; c < columns; c += BITS_BLOCK) {
            int32_t bits[BITS_BLOCK];
            random_block(state, c / BITS_BLOCK, bits);
            const int width = columns - c < BITS_BLOCK ? (int)(columns - c) : BITS_BLOCK;
            if (width == BITS_BLOCK) {
                for (int i = 0; i < BITS_BLOCK; i++)
                    to[c + i] = (int8_t)(((int32_t)rintf(from[c + i] * steps) + bits[i]) >> 16);
            } else {
                for (int i = 0; i < width; i++)
                    to[c + i] = (int8_t)(((int32_t)rintf(from[c + i] * steps) + bits[i]) >> 16);
            }
        }
    }
    return DONE;
}
