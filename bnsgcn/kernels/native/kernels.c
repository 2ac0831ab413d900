/* The native kernels, every template once per number format and id width. Compiled on first use by
 * partition/native.py, called through binding.py. */
#include "common.h"

#define KEEP(value) (value)
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

#include "rows.h"

#define ID int32_t
#define NAME(f) JOIN(f, i32)
#include "structure.h"
#undef ID
#undef NAME
#define ID int64_t
#define NAME(f) JOIN(f, i64)
#include "structure.h"
#undef ID
#undef NAME

#define REAL float
#define NAME(f) JOIN(f, f32)
#include "dense.h"
#undef NAME
#undef REAL
#define REAL double
#define NAME(f) JOIN(f, f64)
#include "dense.h"
#undef NAME
#undef REAL

#define REAL float
#define ROW REAL
#define WIDEN KEEP
#define NARROW KEEP
#define EXP exp_f32
#define ROW_SUM row_sum_f32
#define ID int32_t
#define NAME(f) JOIN(f, f32_i32)
#define WIDEST MAX_VECTORS
#include "attention.h"
#include "sum.h"
#undef WIDEST
#define WIDEST 4 /* the rest is right, and quick to compile */
#undef ID
#undef NAME
#define ID int64_t
#define NAME(f) JOIN(f, f32_i64)
#include "attention.h"
#include "sum.h"
#undef ID
#undef NAME
#undef EXP
#undef ROW_SUM
#undef REAL

#define REAL double
#define EXP exp
#define ROW_SUM row_sum_f64
#define ID int32_t
#define NAME(f) JOIN(f, f64_i32)
#include "attention.h"
#include "sum.h"
#undef ID
#undef NAME
#define ID int64_t
#define NAME(f) JOIN(f, f64_i64)
#include "attention.h"
#include "sum.h"
#undef ID
#undef NAME
#undef EXP
#undef ROW_SUM
#undef REAL
#undef ROW
#undef WIDEN
#undef NARROW
#undef WIDEST

#define REAL float
#define ROW bf16
#define HALF
#define WIDEN bf16_to_f32
#define NARROW f32_to_bf16
#define ID int32_t
#define NAME(f) JOIN(f, bf16_i32)
#define WIDEST MAX_VECTORS
#include "sum.h"
#undef WIDEST
#define WIDEST 4
#undef ID
#undef NAME
#define ID int64_t
#define NAME(f) JOIN(f, bf16_i64)
#include "sum.h"

/* Its length, the version of the functions, the sizes of what they are given; see binding.py. */
const int64_t native_layout[] = {
    4, 2, sizeof(sum_task_f32_i32), sizeof(norm_task_f32), sizeof(attention_task_f32_i32),
};
