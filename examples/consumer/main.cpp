// main.cpp - a user's program: it compiles against the installed headers, links all that the library needs,
// and weighs new samples of a correlated pair by an energy of its own.
#include <cstdio>
#include <dynkin/dynkin.h>
#include <random>

int main() {
    std::mt19937_64 generator(1);
    std::normal_distribution<double> normal;
    dynkin::Array<double> x(20'000, 2);
    for (std::size_t n = 0; n < x.rows(); ++n) {
        x(n, 0) = normal(generator);
        x(n, 1) = 0.6 * x(n, 0) + 0.8 * normal(generator);
    }
    dynkin::write_npy("train.npy", x);

    const dynkin::Context context;
    const dynkin::SampleFile data("train.npy");
    const dynkin::Model model = dynkin::fit(context, data, {.degree = 4});
    const dynkin::Samples draw =
        dynkin::sample(context, model, 10'000, {.method = dynkin::Method::ode, .seed = 7});
    const dynkin::Weights weights =
        dynkin::weigh(draw, [](std::size_t count, const float* row, double* energies) {
            for (std::size_t n = 0; n < count; ++n, row += 2) {
                const double a = row[0], b = (row[1] - 0.6 * a) / 0.8;
                energies[n] = 0.5 * (a * a + b * b);
            }
        });
    // The exact log Z is log(2 pi) + log 0.8 = 1.6147.
    std::printf("log Z = %.4f +- %.4f, effective sample size %.1f %%\n", weights.log_partition,
                weights.log_partition_error, 100 * weights.ess_fraction);
    return weights.ess_fraction > 0.9 ? 0 : 1;
}
