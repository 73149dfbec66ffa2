/* Activation functions, of sums that are there.
 *
 * Curves are taken in float64 and rounded to float32 once, at the end: within 1 unit in the last place. They are made
 * of additions, multiplications, divisions and selections alone, which every processor rounds alike; a library's exp
 * or tanh would be another on another machine. lamella/kernel/curves.py is the same in numpy, operation by operation.
 */

/* As lamella/kernel/curves.py numbers them. */
enum activation { IDENTITY = 0, RELU = 1, LEAKY_RELU = 2, SIGMOID = 3, TANH = 4, GELU = 5, GELU_TANH = 6 };

static inline double between(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* e^x for |x| <= 700: 2^n e^r with |r| <= ln 2 / 2, and e^r by its series, to 2e-13. */
static inline double exponential(double x) {
    const double shifted = x * 0x1.71547652b82fep+0 + 0x1.8p+52; /* n in the last bits of it */
    const double n = shifted - 0x1.8p+52;
    const double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    uint64_t bits, exponent;
    __builtin_memcpy(&bits, &p, 8);
    __builtin_memcpy(&exponent, &shifted, 8);
    bits += exponent << 52;
    __builtin_memcpy(&p, &bits, 8);
    return p;
}

static inline double sigmoid(double x) { return 1.0 / (1.0 + exponential(between(-x, -700.0, 700.0))); }

static inline double hyperbolic_tangent(double x) {
    const double size = x < 0.0 ? -x : x, square = size * size;
    const double large = 1.0 - 2.0 / (exponential(between(2.0 * size, 0.0, 50.0)) + 1.0);
    const double small = size + size * square * (-1.0 / 3 + square * (2.0 / 15 - square * (17.0 / 315)));
    const double value = size < 0.03125 ? small : large;
    return x < 0.0 ? -value : value;
}

/* x Phi(x). Half of erfc(z), z = |x| / sqrt 2, is e^(-x^2 / 2) times t / 2 times a polynomial, t = 2 / (2 + z): fitted
 * to erfcx(z) / t for z from 0 to 10.6 with a relative error of 3e-10; further out all is 0 in float32. */
static inline double gelu(double x) {
    const double from = x < -40.0 ? -40.0 : x;
    const double z = (from < 0.0 ? -from : from) * 0x1.6a09e667f3bcdp-1;
    const double t = 2.0 / (2.0 + z), s = 2.0 * t - 1.0;
    double p = -0x1.90dbf441aad2cp-19;
    p = p * s - 0x1.3591cab334e56p-17;
    p = p * s + 0x1.f725ef2be30ddp-15;
    p = p * s - 0x1.4bb5eb38237c8p-16;
    p = p * s - 0x1.540298aa82593p-12;
    p = p * s + 0x1.b715934f89af8p-12;
    p = p * s + 0x1.948e1300c822cp-10;
    p = p * s - 0x1.a89bcff98223dp-9;
    p = p * s - 0x1.606bff2091fdbp-7;
    p = p * s + 0x1.2a88da9011ba8p-6;
    p = p * s + 0x1.1e2decdf2ff3ap-3;
    p = p * s + 0x1.5fd3867930ca3p-2;
    p = p * s + 0x1.058671b6180dcp-1;
    const double tail = 0.5 * t * p * exponential(between(-0.5 * (from * from), -700.0, 0.0));
    return from * (from < 0.0 ? tail : 1.0 - tail);
}

/* x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), which is x times a sigmoid: nothing cancels. */
static inline double gelu_by_tanh(double x) {
    const double from = x < -40.0 ? -40.0 : x;
    return from * sigmoid(2.0 * (0x1.9884533d43651p-1 * (from + 0.044715 * (from * from * from))));
}

#define EACH(function)                                                         \
    for (int64_t j = 0; j < count; j++) values[j] = (float)function((double)values[j]); \
    break

/* Loops without branches, which compilers turn into vectors. */
static void curve(int32_t activation, float *values, int64_t count) {
    switch (activation) {
    case SIGMOID: EACH(sigmoid);
    case TANH: EACH(hyperbolic_tangent);
    case GELU: EACH(gelu);
    case GELU_TANH: EACH(gelu_by_tanh);
    default: break;
    }
}
#undef EACH
