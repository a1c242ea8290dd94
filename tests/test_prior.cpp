// test_prior.cpp - priors against exact laws and naive systems by quadrature; conventions, threads, files,
// wrong input; the interface for C.
#include "cases.h"
#include "engine/dynkin.h"
#include "engine/prior.h"
#include "tolerance.h"
#include <atomic>
#include <limits>
#include <tuple>

namespace dynkin {
namespace {

using std::size_t;

class Priors : public cases::Folder {
  protected:
    Prior fit(const Array<double>& x, PriorOptions options = {}, int threads = 1) const {
        return fit_prior(cases::context(threads), data(x), options);
    }
};

template <class T = double> Array<T> score(const Prior& prior, const Array<T>& x, std::vector<double> sigma,
                                           NoiseConvention convention = NoiseConvention::edm, int threads = 1,
                                           Isa isa = Isa::automatic) {
    Array<T> out(x.rows(), x.cols());
    PriorScore<T>(cases::context(threads, isa), prior)(
        {x.rows(), x.data(), x.cols(), sigma.data(), sigma.size(), convention}, out.data(), x.cols());
    return out;
}

constexpr PriorKind kKinds[] = {PriorKind::product, PriorKind::gaussian, PriorKind::flat};

double largest(const Array<double>& x) {
    double most = 0;
    for (double v : x) most = std::max(most, std::abs(v));
    return most;
}

void expect_near(const Array<double>& a, const Array<double>& b, double tolerance) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t k = 0; k < a.size(); ++k) ASSERT_NEAR(a[k], b[k], tolerance) << k;
}

/// The exact score of N(mean, covariance) + sigma eps at the rows of x.
Array<double> exact(oracle::Gaussian g, const Array<double>& x, double sigma) {
    for (size_t i = 0; i < g.size(); ++i) g.covariance(i, i) += sigma * sigma;
    Array<double> out(x.rows(), x.cols());
    for (size_t n = 0; n < x.rows(); ++n) {
        const auto s = g.score(x.row(n));
        std::copy(s.begin(), s.end(), out.row(n));
    }
    return out;
}

// ---- laws whose score is known

/// Neighbours correlated by 0.6; eigenvalues between 0.25 and 4.
oracle::Gaussian chain(size_t d) {
    oracle::Gaussian g{std::vector<double>(d), Array<double>(d, d)};
    for (size_t i = 0; i < d; ++i) {
        g.mean[i] = 0.4 - 0.3 * static_cast<double>(i % 3);
        for (size_t j = 0; j < d; ++j) g.covariance(i, j) = std::pow(0.6, i > j ? i - j : j - i);
    }
    return g;
}

TEST_F(Priors, GaussianIsTheScoreOfTheEmpiricalCovarianceAtEveryLevel) {
    for (const size_t d : {1, 7, 260}) { // 260: two blocks of columns
        const Array<double> x = cases::draw(chain(d), d == 260 ? 900 : 400, 3);
        const Prior prior = fit(x, {.kind = PriorKind::gaussian});
        const Array<double> points = cases::draw(chain(d), d == 260 ? 2 : 31, 4);
        for (const double sigma : {0.05, 0.7, 40.0}) {
            const Array<double> expected = exact(oracle::empirical(x), points, sigma);
            // condition number below 1e3 d, rounding of d terms
            expect_near(score(prior, points, {sigma}), expected,
                        1e3 * static_cast<double>(d * d) * tolerance::eps * largest(expected));
        }
    }
}

TEST_F(Priors, ProductOfDegreeTwoIsTheGaussianOfEachColumn) {
    const size_t d = 31;
    const Array<double> x = cases::rows(500, d, 5);
    oracle::Gaussian g = oracle::empirical(x);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j)
            if (i != j) g.covariance(i, j) = 0;
    const Prior prior = fit(x, {.degree = 2, .ridge = 0});
    for (const double sigma : {0.05, 0.7, 40.0}) {
        const Array<double> expected = exact(g, x, sigma);
        expect_near(score(prior, x, {sigma}), expected, tolerance::quadrature * largest(expected));
    }
}

TEST_F(Priors, FlatOfDegreeTwoIsTheGaussian) {
    const size_t d = 6;
    const Array<double> x = cases::draw(chain(d), 400, 3);
    const Prior prior = fit(x, {.kind = PriorKind::flat, .degree = 2, .ridge = 0});
    for (const double sigma : {0.02, 0.3, 2.0, 30.0}) {
        const Array<double> expected = exact(oracle::empirical(x), x, sigma);
        // cubic spline through 41 nodes in tau: a fourth derivative of size 1 times (6/40)^4 / 384, times a
        // margin
        expect_near(score(prior, x, {sigma}), expected, 2e-4 * largest(expected));
    }
}

TEST_F(Priors, ConstantColumnsAreTheScoreOfAPoint) {
    Array<double> x = cases::rows(300, 5, 6);
    for (size_t n = 0; n < x.rows(); ++n) x(n, 3) = -0.7;
    for (const PriorKind kind : kKinds) {
        const Prior prior = fit(x, {.kind = kind});
        const Array<double> s = score(prior, x, {0.25}), far = score(prior, Array<double>(1, 5), {0.25});
        for (size_t n = 0; n < x.rows(); ++n) ASSERT_NEAR(s(n, 3), 0, 1e-12) << n;
        EXPECT_NEAR(far(0, 3), -0.7 / (0.25 * 0.25), 1e-12 * 16) << prior_kind_name(kind);
        Array<double> beyond(1, 5);
        beyond(0, 3) = 2;
        EXPECT_NEAR(score(prior, beyond, {0.25})(0, 3), -2.7 / (0.25 * 0.25), 1e-12 * 64);
    }
}

// ---- the naive system of one column

/// K equations with E over rows and noise by quadrature, in the OU process of middle and quarter of the
/// range.
class NaiveColumn {
  public:
    NaiveColumn(const Array<double>& data, size_t j, int degree, double ridge, double sigma)
        : degree_(degree), sigma_(sigma) {
        const size_t K = static_cast<size_t>(degree);
        double low = INFINITY, high = -INFINITY;
        for (size_t n = 0; n < data.rows(); ++n)
            low = std::min(low, data(n, j)), high = std::max(high, data(n, j));
        middle_ = (low + high) / 2, scale_ = (high - low) / 4;
        a_ = scale_ / std::hypot(scale_, sigma);
        Array<double> gram(K, K);
        std::vector<double> right(K);
        for (size_t n = 0; n < data.rows(); ++n)
            for (int i = -56; i <= 56; ++i) { // the trapezoid rule of oracle::normal_average
                const double e = 0.25 * i,
                             weight = 0.25 * std::exp(-e * e / 2) / std::sqrt(2 * std::numbers::pi);
                const auto phi = functions(a_ * (data(n, j) - middle_) / scale_ + std::sqrt(1 - a_ * a_) * e);
                for (size_t k = 0; k < K; ++k) {
                    right[k] += weight * static_cast<double>(k + 1) * phi[k + 1];
                    for (size_t l = 0; l < K; ++l)
                        gram(k, l) +=
                            weight * std::sqrt(static_cast<double>((k + 1) * (l + 1))) * phi[k] * phi[l];
                }
            }
        for (size_t k = 0; k < K; ++k) gram(k, k) *= 1 + ridge;
        const Array<double> inverse = oracle::inverse(gram);
        for (size_t k = 0; k < K; ++k) {
            c_.push_back(0);
            for (size_t l = 0; l < K; ++l) c_[k] += inverse(k, l) * right[l];
        }
    }
    double score(double x) const {
        const double y = a_ * (x - middle_) / scale_, reach = a_ * (2 + 3 * sigma_ / scale_);
        const auto phi = functions(std::clamp(y, -reach, reach));
        double h = 0;
        for (size_t k = 0; k < c_.size(); ++k) h += c_[k] * std::sqrt(static_cast<double>(k + 1)) * phi[k];
        return a_ / scale_ * (h - y);
    }

  private:
    std::vector<double> functions(double y) const {
        std::vector<double> phi;
        for (int k = 0; k <= degree_; ++k) phi.push_back(oracle::hermite(k, y));
        return phi;
    }
    int degree_;
    double sigma_, middle_ = 0, scale_ = 1, a_ = 1;
    std::vector<double> c_;
};

TEST_F(Priors, ProductIsTheNaiveSystemOfEachColumn) {
    const Array<double> data = cases::rows(23, 31, 8);
    Array<double> points(4, 31);
    for (size_t n = 0; n < 4; ++n)
        for (size_t j = 0; j < 31; ++j)
            points(n, j) = -2.5 + 1.6 * static_cast<double>(n) + 0.01 * static_cast<double>(j);
    for (const int degree : {3, 6, 10}) {
        const double ridge = degree == 6 ? 1e-3 : 1e-2;
        const Prior prior = fit(data, {.degree = degree, .ridge = ridge});
        for (const double sigma : {0.05, 0.5, 5.0}) {
            std::vector<Array<double>> all;
            for (const Isa isa : cases::isas())
                all.push_back(score(prior, points, {sigma}, NoiseConvention::edm, 1, isa));
            for (const size_t j : {0, 30}) {
                const NaiveColumn naive(data, j, degree, ridge, sigma);
                for (size_t n = 0; n < 4; ++n)
                    for (const auto& s : all) // condition of the scaled system: K / ridge
                        ASSERT_NEAR(s(n, j), naive.score(points(n, j)), 1e-8 * (1 + 1 / sigma))
                            << degree << ' ' << sigma << ' ' << j << ' ' << n;
            }
        }
    }
}

TEST_F(Priors, ManyColumns) {
    const size_t d = 10'007;
    const Array<double> data = cases::rows(50, d, 9);
    const Prior prior = fit(data);
    Array<double> x(1, d);
    std::copy_n(data.row(7), d, x.row(0));
    const Array<double> s = score(prior, x, {0.4}, NoiseConvention::edm, 2);
    for (const size_t j : {size_t{0}, size_t{4097}, d - 1})
        EXPECT_NEAR(s(0, j), NaiveColumn(data, j, 6, 1e-3, 0.4).score(x(0, j)), 1e-8) << j;
}

TEST_F(Priors, MomentsOfBatchesWhoseRangeGrows) {
    const size_t d = 1 << 15, rows = 150; // batches of 64 rows
    Array<double> x(rows, d);
    for (size_t n = 0; n < rows; ++n)
        for (size_t j = 0; j < d; ++j) {
            const double wave = std::sin(static_cast<double>(n * (j % 97 + 1)));
            x(n, j) = j % 3 == 0 && n < 70 ? 5.0 : 5 + wave * std::pow(1.0 + static_cast<double>(n), j % 4);
        }
    const Prior prior = fit(x);
    const auto& law = std::get<ProductPrior>(prior.law);
    for (size_t j = 0; j < 24; ++j) {
        double low = INFINITY, high = -INFINITY;
        for (size_t n = 0; n < rows; ++n) low = std::min(low, x(n, j)), high = std::max(high, x(n, j));
        EXPECT_NEAR(law.middle[j], (low + high) / 2, 1e-14 * high);
        EXPECT_NEAR(law.scale[j], (high - low) / 4, 1e-14 * high);
        for (int r = 0; r <= 12; ++r) {
            double mean = 0;
            for (size_t n = 0; n < rows; ++n)
                mean += oracle::hermite(r, (x(n, j) - law.middle[j]) / law.scale[j]) / rows;
            EXPECT_NEAR(law.moments(static_cast<size_t>(r), j), mean, tolerance::quadrature * 10)
                << r << ' ' << j;
        }
    }
}

// ---- conventions, precisions, levels, threads

TEST_F(Priors, ConventionsAreOneScore) {
    const Array<double> data = cases::rows(400, 9, 10), x = cases::rows(70, 9, 11);
    for (const PriorKind kind : kKinds) {
        const Prior prior = fit(data, {.kind = kind});
        for (const double sigma : {0.1, 0.6, 0.95}) {
            const double alpha = std::sqrt(1 - sigma * sigma);
            Array<double> scaled = x;
            for (double& v : scaled) v *= alpha;
            Array<double> vp = score(prior, scaled, {sigma}, NoiseConvention::vp);
            for (double& v : vp) v *= alpha;
            const Array<double> edm = score(prior, x, {sigma / alpha});
            expect_near(vp, edm, 1e-11 * (1 + largest(edm)));
        }
    }
}

TEST_F(Priors, LevelsByRowAreThoseOfTheBatchAndThreadsDoNotMatter) {
    const Array<double> data = cases::rows(400, 19, 12), x = cases::rows(701, 19, 13);
    for (const PriorKind kind : kKinds) {
        const Prior prior = fit(data, {.kind = kind});
        const Array<double> batch = score(prior, x, {0.3}),
                            rows = score(prior, x, std::vector<double>(x.rows(), 0.3));
        if (kind == PriorKind::flat) // its four matrices are added up for the batch, products for rows
            expect_near(rows, batch, 1e-11 * (1 + largest(batch)));
        else
            EXPECT_TRUE(cases::same_bytes(rows, batch)) << prior_kind_name(kind);
        std::vector<double> levels;
        for (size_t n = 0; n < x.rows(); ++n)
            levels.push_back(0.01 * std::exp(0.01 * static_cast<double>(n)));
        const Array<double> one = score(prior, x, levels),
                            three = score(prior, x, levels, NoiseConvention::edm, 3);
        EXPECT_TRUE(cases::same_bytes(one, three)) << prior_kind_name(kind);
        EXPECT_TRUE(cases::same_bytes(batch, score(prior, x, {0.3}, NoiseConvention::edm, 3)));
        for (const size_t n : {size_t{0}, size_t{64}, size_t{700}}) {
            Array<double> row(1, x.cols());
            std::copy_n(x.row(n), x.cols(), row.data());
            const Array<double> alone = score(prior, row, {levels[n]});
            for (size_t j = 0; j < x.cols(); ++j)
                ASSERT_NEAR(one(n, j), alone[j], 1e-11 * (1 + largest(alone))) << n;
        }
    }
}

/// A batch of one row with a sigma a row is no batch at one sigma: flat priors add up products there, not
/// matrices, products in float32 take their table.
TEST_F(Priors, ARowByItselfIsThatOfTheBatch) {
    constexpr size_t count = 101;
    const Array<double> data = cases::rows(400, 19, 12), points = cases::rows(count, 19, 13);
    Array<float> x(count, 19);
    std::copy(points.begin(), points.end(), x.begin());
    std::vector<double> levels;
    for (size_t n = 0; n < count; ++n) // out of order; in places most of them together
        levels.push_back(n % 3 ? 0.3 + 1e-4 * static_cast<double>(n)
                               : 0.05 * static_cast<double>(1 + n * 37 % count));
    for (const PriorKind kind : {PriorKind::product, PriorKind::flat}) {
        const Prior prior = fit(data, {.kind = kind});
        const PriorScore<float> scores(cases::context(), prior);
        Array<float> batch(count, 19), alone(count, 19);
        scores({count, x.data(), 19, levels.data(), count}, batch.data(), 19);
        for (size_t n = 0; n < count; ++n)
            scores({1, x.row(n), 19, &levels[n], NoisyRows<float>::each_row}, alone.row(n), 19);
        EXPECT_TRUE(cases::same_bytes(alone, batch)) << prior_kind_name(kind);
    }
}

TEST_F(Priors, FitsDoNotDependOnThreads) {
    const Array<double> data = cases::rows(3000, 300, 14);
    for (const PriorKind kind : {PriorKind::product, PriorKind::gaussian}) {
        const Prior one = fit(data, {.kind = kind}, 1), three = fit(data, {.kind = kind}, 3);
        write_prior(path("one"), one), write_prior(path("three"), three);
        EXPECT_EQ(read_file(path("one")), read_file(path("three"))) << prior_kind_name(kind);
    }
}

/// Stopped after every batch, each time resumed; the flat prior from what it saved last.
TEST_F(Priors, InterruptedFitsContinueToTheSameBytes) {
    for (const auto& [kind, rows, d, batches] :
         {std::tuple<PriorKind, size_t, size_t, int>{PriorKind::product, 5000, 1000, 3},
          {PriorKind::gaussian, 14'000, 300, 3},
          {PriorKind::flat, 20'000, 6, 0}}) {
        const SampleFile file = data(cases::rows(rows, d, 26));
        const PriorOptions options{.kind = kind, .degree = 3};
        CheckpointOptions state{.path = path("state"), .identity = "{}", .interval_seconds = 0};
        write_prior(path("whole"), fit_prior(cases::context(), file, options, state));
        const std::atomic<int> signal{kind == PriorKind::flat ? 0 : 2};
        ContextOptions where{.device = Device::cpu, .threads = 2};
        where.interrupt_signal = &signal;
        const Context context(where);
        if (kind != PriorKind::flat) std::filesystem::remove(path("state"));
        state.resume = true, state.interval_seconds = 1e9;
        for (int k = 0; k < batches; ++k)
            EXPECT_THROW(fit_prior(context, file, options, state), Interrupted) << k;
        ASSERT_TRUE(std::filesystem::exists(path("state")));
        write_prior(path("parts"), fit_prior(context, file, options, state));
        EXPECT_TRUE(read_file(path("whole")) == read_file(path("parts"))) << prior_kind_name(kind);
        std::filesystem::remove(path("state"));
    }
}

TEST_F(Priors, SinglePrecisionIsDoubleRounded) {
    const Array<double> data = cases::rows(400, 33, 15), x = cases::rows(65, 33, 16);
    Array<float> narrow(x.rows(), x.cols());
    std::copy(x.begin(), x.end(), narrow.begin());
    for (const PriorKind kind : kKinds) {
        const Prior prior = fit(data, {.kind = kind});
        for (const double sigma : {0.1, 1.0}) {
            const Array<double> wide = score(prior, x, {sigma});
            const Array<float> s = score(prior, narrow, {sigma});
            // powers of v: (1 + sqrt 2)^5 roundings of coefficients, on slopes of up to 1 / sigma^2
            const double bound = 100 * tolerance::eps32 * (largest(wide) + 1 / (sigma * sigma));
            for (size_t k = 0; k < s.size(); ++k) ASSERT_NEAR(static_cast<double>(s[k]), wide[k], bound);
        }
    }
}

TEST_F(Priors, StridesAndResultsInPlace) {
    const Array<double> data = cases::rows(400, 7, 17), x = cases::rows(90, 7, 18);
    const double sigma = 0.4;
    for (const PriorKind kind : kKinds) {
        const Prior prior = fit(data, {.kind = kind});
        const Array<double> expected = score(prior, x, {sigma});
        Array<double> wide(90, 10);
        for (size_t n = 0; n < 90; ++n) std::copy_n(x.row(n), 7, wide.row(n)), wide(n, 8) = 77;
        PriorScore<double>(cases::context(), prior)({90, wide.data(), 10, &sigma, 1}, wide.data(), 10);
        for (size_t n = 0; n < 90; ++n) {
            for (size_t j = 0; j < 7; ++j) ASSERT_EQ(wide(n, j), expected(n, j));
            ASSERT_EQ(wide(n, 8), 77);
        }
    }
}

// ---- a sigma a row in float32: tables over sigma

/// Largest |table - equations| alpha sigma over rows of float32, each against the equations of its level in
/// float64.
double table_error(const Prior& prior, const Array<float>& x, const std::vector<double>& levels,
                   NoiseConvention convention = NoiseConvention::edm) {
    const Array<float> s = score(prior, x, levels, convention);
    const Array<double> wide = [&] {
        Array<double> copy(x.rows(), x.cols());
        std::copy(x.begin(), x.end(), copy.begin());
        return score(prior, copy, levels, convention);
    }();
    double most = 0;
    for (size_t n = 0; n < x.rows(); ++n) {
        double largest = 1;
        for (size_t j = 0; j < x.cols(); ++j) largest = std::max(largest, levels[n] * std::abs(wide(n, j)));
        for (size_t j = 0; j < x.cols(); ++j)
            most = std::max(most, levels[n] * std::abs(static_cast<double>(s(n, j)) - wide(n, j)) / largest);
    }
    return most;
}

/// Columns of every kind: uniform, two values, one value in fifty, skewed, nearly constant, constant.
Array<double> kinds_of_columns(size_t rows, size_t d) {
    Array<double> x = cases::rows(rows, d, 31);
    for (size_t n = 0; n < rows; ++n)
        for (size_t j = 0; j < d; ++j) {
            double& v = x(n, j);
            if (j % 6 == 1) v = v > 0 ? 1 : -1;
            if (j % 6 == 2) v = n % 50 == 0 ? 1 : -1;
            if (j % 6 == 3) v = v * v;
            if (j % 6 == 4) v = 0.25 + 1e-6 * v;
            if (j % 6 == 5) v = -0.5;
        }
    return x;
}

/// sigma from far below the table to far above, so that both its ends are among them, and rows at the data,
/// within three sigma and far out.
void noisy_rows(const Array<double>& data, Array<float>& x, std::vector<double>& levels) {
    const Array<double> noise = cases::rows(x.rows(), x.cols(), 32);
    for (size_t n = 0; n < x.rows(); ++n) {
        levels.push_back(1e-6 * std::pow(10, 12 * static_cast<double>(n) / static_cast<double>(x.rows())));
        const double size = n % 8 == 7 ? 5 : 1;
        for (size_t j = 0; j < x.cols(); ++j)
            x(n, j) = static_cast<float>(data(n % data.rows(), j) + size * levels[n] * noise(n, j));
    }
}

TEST_F(Priors, TablesOverSigmaAreTheEquations) {
    for (const auto& [degree, d] : {std::pair<int, size_t>{2, 1}, {6, 31}, {10, 67}}) {
        const Array<double> data = kinds_of_columns(400, d);
        const Prior prior = fit(data, {.degree = degree});
        Array<float> x(257, d);
        std::vector<double> levels;
        noisy_rows(data, x, levels);
        // x in float32 moves by eps |x|, and sigma score by that over sigma where the law has this scale:
        // rows whose sigma is above 1e-3 only; 2: |v| up to 1 is where the table is checked, at midpoints,
        // not halfway to the next point
        Array<float> above(0, d);
        std::vector<double> high;
        size_t first = 0;
        while (levels[first] < 1e-3) ++first;
        above = Array<float>(x.rows() - first, d);
        std::copy(x.row(first), x.end(), above.begin());
        high.assign(levels.begin() + static_cast<std::ptrdiff_t>(first), levels.end());
        EXPECT_LT(table_error(prior, above, high), 2 * 5e-4) << degree;
        std::vector<double> vp;
        for (const double sigma : high) vp.push_back(std::min(sigma / std::hypot(1, sigma), 0.999));
        EXPECT_LT(table_error(prior, above, vp, NoiseConvention::vp), 2 * 5e-4) << degree;
    }
}

TEST_F(Priors, TablesDoNotKnowTheBatch) {
    const size_t d = 200; // three blocks and a part
    const Array<double> data = kinds_of_columns(400, d);
    const Prior prior = fit(data);
    Array<float> x(601, d);
    std::vector<double> levels;
    noisy_rows(data, x, levels);
    std::reverse(levels.begin() + 100, levels.begin() + 400); // not in their order
    x(17, 3) = std::numeric_limits<float>::quiet_NaN();
    for (const Isa isa : cases::isas()) {
        const Array<float> whole = score(prior, x, levels, NoiseConvention::edm, 1, isa);
        EXPECT_TRUE(cases::same_bytes(whole, score(prior, x, levels, NoiseConvention::edm, 3, isa)));
        Array<float> parts(x.rows(), d);
        const PriorScore<float> scores(cases::context(1, isa), prior);
        for (size_t first = 0; first < x.rows(); first += 7) {
            const size_t count = std::min<size_t>(7, x.rows() - first);
            scores({count, x.row(first), d, &levels[first], NoisyRows<float>::each_row}, parts.row(first), d);
        }
        for (size_t k = 0; k < x.rows() * d; ++k) // the last part is a single row
            ASSERT_TRUE(parts[k] == whole[k] || (std::isnan(parts[k]) && k == 17 * d + 3)) << k;
        Array<float> wide(x.rows(), d + 3); // in place, with a stride
        for (size_t n = 0; n < x.rows(); ++n) std::copy_n(x.row(n), d, wide.row(n)), wide(n, d) = 7;
        scores({x.rows(), wide.data(), d + 3, levels.data(), levels.size()}, wide.data(), d + 3);
        for (size_t n = 0; n < x.rows(); ++n) {
            ASSERT_EQ(wide(n, d), 7);
            for (size_t j = 0; j < d; ++j)
                ASSERT_TRUE(wide(n, j) == whole(n, j) || (n == 17 && j == 3)) << n << ' ' << j;
        }
    }
}

// ---- files

TEST_F(Priors, FilesKeepEveryBit) {
    const Array<double> data = cases::rows(400, 7, 19);
    for (const PriorKind kind : kKinds) {
        const Prior prior = fit(data, {.kind = kind, .degree = 5, .ridge = 2e-3});
        write_prior(path("p"), prior);
        const Prior back = read_prior(path("p"));
        EXPECT_EQ(back.rows, 400u);
        EXPECT_EQ(back.sample_shape, prior.sample_shape);
        EXPECT_EQ(back.options.degree, 5);
        EXPECT_TRUE(cases::same_bytes(score(prior, data, {0.3}), score(back, data, {0.3})));
        const std::string bytes = read_file(path("p"));
        for (const size_t end : {bytes.size() - 1, bytes.size() / 2, size_t{4}}) {
            write_file(path("cut"), bytes.substr(0, end));
            cases::expect_error(
                ErrorKind::input, [&] { read_prior(path("cut")); }, "cut");
        }
    }
}

TEST_F(Priors, FilesThatAreNoPriors) {
    const Array<double> data = cases::rows(400, 7, 20);
    TensorFile file;
    file.format = "dynkin-model";
    write_tensor_file(path("m"), file);
    cases::expect_error(
        ErrorKind::input, [&] { read_prior(path("m")); }, "dynkin-model");
    cases::expect_error(
        ErrorKind::io, [&] { read_prior(path("absent")); }, "absent");
    write_prior(path("p"), fit(data));
    const TensorFile good = read_tensor_file(path("p"), "dynkin-prior");
    const auto refused = [&](const char* part, const auto& change) {
        TensorFile bad = good;
        change(bad);
        write_tensor_file(path("bad"), bad);
        cases::expect_error(
            ErrorKind::input, [&] { read_prior(path("bad")); }, part);
    };
    refused("kind", [](TensorFile& f) { f.metadata["kind"] = "sharp"; });
    refused("got 'sh?arp'", [](TensorFile& f) { f.metadata["kind"] = "sh\narp"; });
    refused("degree", [](TensorFile& f) { f.tensors["degree"].i64[0] = 11; });
    refused("ridge", [](TensorFile& f) { f.tensors["ridge"].f64[0] = -1; });
    refused("scale", [](TensorFile& f) { f.tensors["scale"].f64[2] = -1; });
    refused("middle", [](TensorFile& f) { f.tensors["middle"].f64[2] = NAN; });
    refused("moments", [](TensorFile& f) { f.tensors["moments"].f64[9] = 1e9; });
    refused("sample_shape", [](TensorFile& f) { f.tensors["sample_shape"].u64[0] = 3; });
    refused("moments", [](TensorFile& f) { f.tensors.erase("moments"); });
}

// ---- wrong input

TEST_F(Priors, WrongLevelsStridesAndOptions) {
    const Array<double> data = cases::rows(400, 7, 21);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const PriorKind kind : kKinds) {
        const Prior prior = fit(data, {.kind = kind});
        for (const double sigma : {0.0, -1.0, nan, HUGE_VAL, 1.01 * prior.largest_noise()})
            cases::expect_error(
                ErrorKind::usage, [&] { score(prior, data, {sigma}); }, "sigma");
        for (const double sigma : {0.0, 1.0, 1.5, nan})
            cases::expect_error(
                ErrorKind::usage, [&] { score(prior, data, {sigma}, NoiseConvention::vp); }, "sigma");
        cases::expect_error(
            ErrorKind::usage,
            [&] {
                score(prior, data, {0.5, 0.5});
            },
            "400");
        EXPECT_TRUE(std::isfinite(largest(score(prior, data, {prior.largest_noise()}))));
        EXPECT_TRUE(std::isfinite(largest(score(prior, data, {1e-6}))));
        const double sigma = 0.5;
        Array<double> out = data;
        cases::expect_error(
            ErrorKind::usage,
            [&] {
                PriorScore<double>(cases::context(), prior)({2, data.data(), 6, &sigma, 1}, out.data(), 7);
            },
            "stride");
    }
    for (const int degree : {-1, 0, 1, 11})
        cases::expect_error(
            ErrorKind::usage, [&] { fit(data, {.degree = degree}); }, "degree");
    for (const double ridge : {-1.0, 2.0, nan})
        cases::expect_error(
            ErrorKind::usage, [&] { fit(data, {.ridge = ridge}); }, "ridge");
    EXPECT_EQ(prior_kind("flat"), PriorKind::flat);
    cases::expect_error(
        ErrorKind::usage, [] { prior_kind("deep"); }, "deep");
}

TEST_F(Priors, WrongSamples) {
    Array<double> data = cases::rows(400, 7, 22);
    for (const PriorKind kind : kKinds) {
        cases::expect_error(
            ErrorKind::input, [&] { fit(cases::rows(1, 7, 1), {.kind = kind}); }, "data.npy");
        for (const double bad : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, 1e101}) {
            Array<double> x = data;
            x(123, 4) = bad;
            cases::expect_error(
                ErrorKind::input, [&] { fit(x, {.kind = kind}); }, "column 4");
        }
    }
    cases::expect_error(
        ErrorKind::input, [&] { fit(cases::rows(59, 7, 1), {.kind = PriorKind::flat}); }, "60");
    cases::expect_error(
        ErrorKind::input, [&] { fit(cases::rows(60, 300, 1), {.kind = PriorKind::flat}); }, "300 columns");
    cases::expect_error(
        ErrorKind::input, [&] { fit(Array<double>(60, 3), {.kind = PriorKind::flat}); }, "constant");
}

TEST_F(Priors, NotANumberStaysInItsRow) {
    const Array<double> data = cases::rows(400, 7, 23);
    Array<double> x = cases::rows(70, 7, 24);
    for (const PriorKind kind : kKinds) {
        const Prior prior = fit(data, {.kind = kind});
        const Array<double> clean = score(prior, x, {0.5});
        Array<double> bad = x;
        bad(5, 2) = std::numeric_limits<double>::quiet_NaN();
        const Array<double> s = score(prior, bad, {0.5});
        EXPECT_TRUE(std::isnan(s(5, 2)));
        for (size_t n = 0; n < 70; ++n)
            for (size_t j = 0; n != 5 && j < 7; ++j) ASSERT_EQ(s(n, j), clean(n, j));
    }
}

// ---- the interface for C

TEST_F(Priors, InterfaceForC) {
    const Array<double> data = cases::rows(400, 7, 25);
    const Prior expected = fit(data);
    dynkin_prior* prior = nullptr;
    ASSERT_EQ(dynkin_prior_fit(path("data.npy").c_str(), "product", 0, -1, 1, &prior), DYNKIN_OK)
        << dynkin_last_error();
    EXPECT_EQ(dynkin_prior_dimension(prior), 7u);
    EXPECT_EQ(dynkin_prior_largest_noise(prior), expected.largest_noise());
    const double sigma = 0.3, zero = 0;
    Array<double> out(400, 7);
    ASSERT_EQ(dynkin_prior_score_f64(prior, 400, data.data(), 7, &sigma, 1, DYNKIN_EDM, out.data(), 7),
              DYNKIN_OK);
    EXPECT_TRUE(cases::same_bytes(out, score(expected, data, {sigma})));
    EXPECT_EQ(dynkin_prior_score_f64(prior, 400, data.data(), 7, &zero, 1, DYNKIN_VP, out.data(), 7),
              DYNKIN_USAGE);
    EXPECT_NE(std::string(dynkin_last_error()).find("sigma"), std::string::npos);
    EXPECT_EQ(dynkin_prior_score_f64(prior, 400, nullptr, 7, &sigma, 1, DYNKIN_VP, out.data(), 7),
              DYNKIN_USAGE);
    EXPECT_EQ(dynkin_prior_score_f64(prior, 400, data.data(), 7, &sigma, 1, 5, out.data(), 7), DYNKIN_USAGE);
    ASSERT_EQ(dynkin_prior_save(prior, path("c.prior").c_str()), DYNKIN_OK) << dynkin_last_error();
    EXPECT_EQ(dynkin_prior_save(prior, path("no/such/folder").c_str()), DYNKIN_IO);
    // a row by itself at a sigma a row is that of the batch
    std::vector<float> x(data.begin(), data.end()), all(x.size()), alone(7);
    std::vector<double> sigmas(400, sigma);
    ASSERT_EQ(dynkin_prior_score_f32(prior, 400, x.data(), 7, sigmas.data(), 400, DYNKIN_EDM, all.data(), 7),
              DYNKIN_OK);
    ASSERT_EQ(
        dynkin_prior_score_f32(prior, 1, x.data(), 7, &sigma, DYNKIN_EACH_ROW, DYNKIN_EDM, alone.data(), 7),
        DYNKIN_OK);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), all.begin()));
    EXPECT_EQ(dynkin_prior_set_device(prior, "tpu", 0), DYNKIN_USAGE);
    EXPECT_EQ(dynkin_prior_set_device(prior, nullptr, 0), DYNKIN_USAGE);
    ASSERT_EQ(dynkin_prior_set_device(prior, "cpu", 0), DYNKIN_OK);
    ASSERT_EQ(
        dynkin_prior_score_f32(prior, 1, x.data(), 7, &sigma, DYNKIN_EACH_ROW, DYNKIN_EDM, alone.data(), 7),
        DYNKIN_OK);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), all.begin()));
    dynkin_prior_free(prior);
    ASSERT_EQ(dynkin_prior_load(path("c.prior").c_str(), 2, &prior), DYNKIN_OK);
    dynkin_prior_free(prior);
    EXPECT_EQ(dynkin_prior_load(path("data.npy").c_str(), 1, &prior), DYNKIN_INPUT);
    EXPECT_EQ(prior, nullptr);
    EXPECT_EQ(dynkin_prior_load(path("absent").c_str(), 1, &prior), DYNKIN_IO);
    EXPECT_EQ(dynkin_prior_fit(path("data.npy").c_str(), "deep", 0, -1, 1, &prior), DYNKIN_USAGE);
    EXPECT_EQ(dynkin_prior_fit(path("data.npy").c_str(), "product", 0, -1, -1, &prior), DYNKIN_USAGE);
    EXPECT_EQ(dynkin_prior_fit(nullptr, "product", 0, -1, 1, &prior), DYNKIN_USAGE);
    EXPECT_EQ(dynkin_prior_load("x", 1, nullptr), DYNKIN_USAGE);
    dynkin_prior_free(nullptr);
}

} // namespace
} // namespace dynkin
