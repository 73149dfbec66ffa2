/* Sums of a layer whose weights are a whole matrix.
 *
 * A sum starts at +0 and takes the columns in the source's order, each by one fused multiplication and addition
 * (as fmaf: rounded once). Nothing else decides its bits: how rows, columns and samples are dealt out does not.
 *
 * Weights lie in tiles of TILE rows, a tile's columns one after the other: few samples then multiply a vector of
 * rows, and every sum reads its weights from one stretch of memory. The last tile may be lower. A layer with a
 * `tile` of 1 has its rows one after the other.
 *
 * The intrinsics are those that C lacks: a fused operation on vectors, and float16 to float32.
 */
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

enum stored_as { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };

#define TILE 8                          /* rows, as model_prep/dense.py has it */
#define FEW 8                           /* samples: up to so many, vectors run over rows */
#define COLUMNS 256                     /* of weights that are used again while they are near */
#define PANEL 128                       /* samples of the input that are packed at a time */
#define BLOCK_VECTORS (LANES == 4 ? 4 : 2) /* of samples, whose sums are in registers with those of BLOCK_ROWS */
#define BLOCK_ROWS (LANES == 16 ? 8 : 4)

/* A tile's column: a vector of TILE rows. */
typedef float column __attribute__((vector_size(4 * TILE), aligned(4), may_alias));

static inline vec fused(vec a, vec b, vec c) {
#if LANES == 16
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif LANES == 8
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    vec sum;
    for (int i = 0; i < LANES; i++) sum[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return sum;
#endif
}

static inline column fused_column(column a, float b, column c) {
#if defined(__AVX2__)
    return (column)_mm256_fmadd_ps((__m256)a, _mm256_set1_ps(b), (__m256)c);
#elif defined(__ARM_NEON)
    union { column whole; float32x4_t half[2]; } x = {a}, sum = {c};
    sum.half[0] = vfmaq_n_f32(sum.half[0], x.half[0], b);
    sum.half[1] = vfmaq_n_f32(sum.half[1], x.half[1], b);
    return sum.whole;
#else
    for (int i = 0; i < TILE; i++) c[i] = __builtin_fmaf(a[i], b, c[i]);
    return c;
#endif
}

static inline float half_to_float(uint16_t half) {
#if defined(__F16C__)
    return _cvtsh_ss(half);
#elif defined(__ARM_NEON)
    __fp16 value;
    __builtin_memcpy(&value, &half, 2);
    return (float)value;
#else
    /* Shifted, the exponent is 112 too low; the product is exact, and makes subnormal numbers normal. */
    const uint32_t rest = (uint32_t)(half & 0x7fff) << 13, sign = (uint32_t)(half & 0x8000) << 16;
    float value;
    __builtin_memcpy(&value, &rest, 4);
    value *= 0x1p112f;
    return sign ? -value : value;
#endif
}

static inline float weight_at(const void *weights, int64_t at, const int stored_as) {
    if (stored_as == FLOAT32) return ((const float *)weights)[at];
    const uint16_t bits = ((const uint16_t *)weights)[at];
    if (stored_as == FLOAT16) return half_to_float(bits);
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    __builtin_memcpy(&value, &wide, 4);
    return value;
}

static inline __attribute__((always_inline)) column column_at(const void *weights, int64_t at, const int stored_as) {
    if (stored_as == FLOAT32) return *(const column *)((const float *)weights + at);
#if defined(__AVX2__)
    const __m128i bits = _mm_loadu_si128((const __m128i *)((const uint16_t *)weights + at));
    if (stored_as == FLOAT16) return (column)_mm256_cvtph_ps(bits);
    return (column)_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
#else
    column found;
    for (int r = 0; r < TILE; r++) found[r] = weight_at(weights, at + r, stored_as);
    return found;
#endif
}

static inline int64_t input_row(const struct layer *layer, int64_t at) {
    return layer->positions ? layer->positions[at] : at;
}

/* ---- few samples ---- */

/* Whole tiles and samples, constants wherever this is inlined. `in` has a column's samples beside each other. */
static inline __attribute__((always_inline)) void few_tiles(const struct layer *layer, int64_t row, const float *in,
                                                            float *y, int64_t stride, const int tiles,
                                                            const int samples, const int stored_as) {
    const int64_t columns = layer->columns, begin = row * columns;
    column sums[2 * FEW];
#pragma GCC unroll 16
    for (int i = 0; i < tiles * samples; i++) sums[i] = (column){0};
    for (int64_t k = 0; k < columns; k++) {
#pragma GCC unroll 8
        for (int t = 0; t < tiles; t++) {
            const column weights = column_at(layer->weights, begin + (t * columns + k) * TILE, stored_as);
#pragma GCC unroll 8
            for (int s = 0; s < samples; s++)
                sums[t * samples + s] = fused_column(weights, in[k * samples + s], sums[t * samples + s]);
        }
    }
    for (int t = 0; t < tiles; t++)
        for (int s = 0; s < samples; s++) {
            float out[TILE];
            __builtin_memcpy(out, &sums[t * samples + s], sizeof out);
            for (int r = 0; r < TILE; r++) y[(row + t * TILE + r) * stride + s] = out[r];
        }
}

static inline __attribute__((always_inline)) void few_stored_as(const struct layer *layer, int64_t first, int64_t last,
                                                                const float *in, float *y, int64_t stride,
                                                                const int samples, const int stored_as) {
    /* Some eight sums that do not wait for each other keep the processor busy. */
    const int together = samples == 1 ? 8 : samples == 2 ? 4 : samples <= 6 ? 2 : 1;
    int64_t row = first;
    for (; row + together * TILE <= last; row += together * TILE)
        few_tiles(layer, row, in, y, stride, together, samples, stored_as);
    for (; row < last; row += TILE) few_tiles(layer, row, in, y, stride, 1, samples, stored_as);
}

static inline __attribute__((always_inline)) void few(const struct layer *layer, int64_t first, int64_t last,
                                                      const float *in, float *y, int64_t stride, const int samples) {
    switch (layer->stored_as) {
    case FLOAT16: few_stored_as(layer, first, last, in, y, stride, samples, FLOAT16); break;
    case BFLOAT16: few_stored_as(layer, first, last, in, y, stride, samples, BFLOAT16); break;
    default: few_stored_as(layer, first, last, in, y, stride, samples, FLOAT32);
    }
}

static void few_samples(const struct layer *layer, int64_t first, int64_t last, const float *in, float *y,
                        int64_t stride, int64_t samples) {
    switch (samples) {
    case 1: few(layer, first, last, in, y, stride, 1); break;
    case 2: few(layer, first, last, in, y, stride, 2); break;
    case 3: few(layer, first, last, in, y, stride, 3); break;
    case 4: few(layer, first, last, in, y, stride, 4); break;
    case 5: few(layer, first, last, in, y, stride, 5); break;
    case 6: few(layer, first, last, in, y, stride, 6); break;
    case 7: few(layer, first, last, in, y, stride, 7); break;
    default: few(layer, first, last, in, y, stride, 8);
    }
}

/* ---- many samples ---- */

/* `rows` of a tile by `vectors` of samples, both constants wherever this is inlined, take more columns. */
static inline __attribute__((always_inline)) void many_sums(const float *weights, int64_t columns, const float *in,
                                                            float *y, int64_t stride, const int rows,
                                                            const int vectors) {
    vec sums[TILE * BLOCK_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) sums[r * vectors + v] = *(const vec *)(y + r * stride + v * LANES);
    for (int64_t k = 0; k < columns; k++) {
        vec x[BLOCK_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) x[v] = *(const vec *)(in + (k * vectors + v) * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const vec weight = all(weights[k * TILE + r]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sums[r * vectors + v] = fused(weight, x[v], sums[r * vectors + v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) *(vec *)(y + r * stride + v * LANES) = sums[r * vectors + v];
}

/* Blocks of BLOCK_VECTORS lie in the panel one after the other, then the vectors that are left. */
static void many_tile(const float *weights, int64_t columns, const float *panel, int64_t vectors, float *y,
                      int64_t stride) {
    int64_t v = 0;
    for (; v + BLOCK_VECTORS <= vectors; v += BLOCK_VECTORS)
        for (int r = 0; r < TILE; r += BLOCK_ROWS)
            many_sums(weights + r, columns, panel + v * LANES * columns, y + r * stride + v * LANES, stride,
                      BLOCK_ROWS, BLOCK_VECTORS);
    for (; v < vectors; v++)
        many_sums(weights, columns, panel + v * LANES * columns, y + v * LANES, stride, TILE, 1);
}

static void pack_panel(const struct layer *layer, int64_t first, int64_t columns, const float *x, int64_t stride,
                       int64_t vectors, float *restrict panel) {
    for (int64_t k = 0; k < columns; k++) {
        const vec *from = (const vec *)(x + input_row(layer, first + k) * stride);
        int64_t v = 0;
        for (; v + BLOCK_VECTORS <= vectors; v += BLOCK_VECTORS)
#pragma GCC unroll 8
            for (int i = 0; i < BLOCK_VECTORS; i++)
                *(vec *)(panel + (v * columns + k * BLOCK_VECTORS + i) * LANES) = from[v + i];
        for (; v < vectors; v++) *(vec *)(panel + (v * columns + k) * LANES) = from[v];
    }
}

static inline __attribute__((always_inline)) void widen(const struct layer *layer, int64_t at, int64_t columns,
                                                        float *restrict to, const int stored_as) {
    for (int64_t k = 0; k < columns; k++)
        *(column *)(to + k * TILE) = column_at(layer->weights, at + k * TILE, stored_as);
}

static void many_samples(const struct layer *layer, int64_t first, int64_t last, const float *x, float *y,
                         int64_t stride, int64_t vectors, float *panel) {
    float wide[TILE * COLUMNS] __attribute__((aligned(64)));
    for (int64_t k = 0; k < layer->columns; k += COLUMNS) {
        const int64_t columns = layer->columns - k < COLUMNS ? layer->columns - k : COLUMNS;
        pack_panel(layer, k, columns, x, stride, vectors, panel);
        for (int64_t row = first; row < last; row += TILE) {
            const int64_t at = row * layer->columns + k * TILE;
            const float *weights = wide;
            if (layer->stored_as == FLOAT16)
                widen(layer, at, columns, wide, FLOAT16);
            else if (layer->stored_as == BFLOAT16)
                widen(layer, at, columns, wide, BFLOAT16);
            else
                weights = (const float *)layer->weights + at;
            many_tile(weights, columns, panel, vectors, y + row * stride, stride);
        }
    }
}

/* ---- rows outside of whole tiles ---- */

static void lone_row(const struct layer *layer, int64_t row, const float *x, float *y, int64_t stride, int64_t width) {
    const int64_t top = row / layer->tile * layer->tile;
    const int64_t height = layer->rows - top < layer->tile ? layer->rows - top : layer->tile;
    const int64_t begin = top * layer->columns + row - top;
    for (int64_t at = 0; at < width; at += LANES) {
        vec sum = {0};
        for (int64_t k = 0; k < layer->columns; k++)
            sum = fused(all(weight_at(layer->weights, begin + k * height, layer->stored_as)),
                        *(const vec *)(x + input_row(layer, k) * stride + at), sum);
        *(vec *)(y + row * stride + at) = sum;
    }
}

/* Sums of the rows [first, last) of `width` samples. Rows of x and y are `stride`
 * floats apart, a multiple of LANES. */
static void dense_sums(const struct layer *layer, int64_t first, int64_t last, const float *x, float *y,
                       int64_t width, int64_t stride) {
    float scratch[COLUMNS * PANEL] __attribute__((aligned(64)));
    int64_t begin = (first + TILE - 1) / TILE * TILE, end = last / TILE * TILE;
    if (layer->tile != TILE || end < begin) begin = end = last;
    for (int64_t row = first; row < begin; row++) lone_row(layer, row, x, y, stride, width);
    for (int64_t row = end; row < last; row++) lone_row(layer, row, x, y, stride, width);
    if (begin == end) return;
    if (width <= FEW && layer->columns * width <= COLUMNS * PANEL) {
        for (int64_t k = 0; k < layer->columns; k++)
            for (int64_t s = 0; s < width; s++) scratch[k * width + s] = x[input_row(layer, k) * stride + s];
        few_samples(layer, begin, end, scratch, y, stride, width);
        return;
    }
    for (int64_t row = begin; row < end; row++) __builtin_memset(y + row * stride, 0, 4 * stride);
    for (int64_t at = 0; at < width; at += PANEL) {
        const int64_t samples = width - at < PANEL ? width - at : PANEL;
        many_samples(layer, begin, end, x + at, y + at, stride, (samples + LANES - 1) / LANES, scratch);
    }
}
