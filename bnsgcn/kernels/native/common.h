/* Shared by all native kernels: vectors, number formats, random bits. Pure C with GCC's vector extension, which
 * GCC and Clang lower to whatever the machine has. Contraction of a * b + c is off (see partition/native.py), so that results
 * are those of torch's separate operations; FMA is asked for by name where it pays. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What a function returns that has nothing to count; binding.py makes a MemoryError of NO_MEMORY. */
#define DONE 0
#define NO_MEMORY (-1)

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define MAX_VECTORS 16 /* accumulators that stay in registers */
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define MAX_VECTORS 8
#else
#define VECTOR_BYTES 16
#define MAX_VECTORS 8
#endif

typedef uint16_t bf16; /* the upper half of a float32 */

INLINE float bf16_to_f32(bf16 half) {
    uint32_t word = (uint32_t)half << 16;
    float value;
    memcpy(&value, &word, 4);
    return value;
}

/* To nearest, ties to even; a NaN stays one. */
INLINE bf16 f32_to_bf16(float value) {
    uint32_t word;
    memcpy(&word, &value, 4);
    uint32_t rounded = (word + 0x7FFFu + ((word >> 16) & 1u)) >> 16;
    return value == value ? (bf16)rounded : (bf16)0x7FC0;
}

/* ---- random bits: see random_bits.py, which this must equal bit for bit ---- */

#define LEVELS 65536
#define BITS_BLOCK 32 /* columns of one block of 16 words */

INLINE uint64_t row_state(int64_t key, int64_t node_id) {
    uint64_t z = (uint64_t)key + (uint64_t)node_id * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Words 16 * block .. 16 * block + 15 of a row. */
INLINE void random_words(uint64_t state, int64_t block, uint32_t *restrict words) {
    const uint32_t low = (uint32_t)state, high = (uint32_t)(state >> 32);
    for (int i = 0; i < 16; i++) {
        uint32_t z = low + (uint32_t)(16 * block + i + 1) * 0x9E3779B9u;
        z ^= z >> 16;
        z *= 0x7FEB352Du;
        z ^= high;
        z ^= z >> 15;
        z *= 0x846CA68Bu;
        words[i] = z ^ (z >> 16);
    }
}

/* The bits of the 32 columns of a block, one int each. */
INLINE void random_block(uint64_t state, int64_t block, int32_t *restrict bits) {
    uint32_t words[16];
    random_words(state, block, words);
    for (int i = 0; i < 16; i++) {
        bits[i] = (int32_t)(words[i] & 0xFFFFu);
        bits[16 + i] = (int32_t)(words[i] >> 16);
    }
}

/* ---- exponential of a float: vectorises, within 2 units in the last place; 0 below -87.3, infinite above 88.37,
 * NaN of NaN: every comparison is false for it, so each is written to let it pass ---- */

INLINE float exp_f32(float x) {
    const float top = x > 88.7f ? 88.7f : x; /* becomes 2^128, which is infinite */
    const float bound = top < -87.3f ? -87.3f : top;
    const float whole = rintf(bound * 1.44269504f);
    /* ln 2 in two pieces, so that the remainder is exact to float precision (Cody and Waite) */
    const float rest = __builtin_fmaf(whole, 2.12194440e-4f, __builtin_fmaf(whole, -0.693359375f, bound));
    float power = 1.9875691500e-4f;
    power = __builtin_fmaf(power, rest, 1.3981999507e-3f);
    power = __builtin_fmaf(power, rest, 8.3334519073e-3f);
    power = __builtin_fmaf(power, rest, 4.1665795894e-2f);
    power = __builtin_fmaf(power, rest, 1.6666665459e-1f);
    power = __builtin_fmaf(power, rest, 5.0000001201e-1f);
    power = __builtin_fmaf(power, rest * rest, rest + 1.0f);
    uint32_t exponent = (uint32_t)((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &exponent, 4);
    return x <= -87.3f ? 0.0f : power * scale;
}
