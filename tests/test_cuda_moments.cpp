// test_cuda_moments.cpp - the moment pass on the device against direct sums; the same bytes for every batch
// and budget of memory.
#include "device_cases.h"
#include "engine/error.h"
#include "engine/piecewise.h"
#include "kernels/moments_cuda.h"
#include "moment_oracle.h"

namespace dynkin {
namespace {

using cases::Basis;
using cases::expect_same;
using cases::make;
using cases::moment_layouts;
using cases::Naive;
using std::size_t;

class CudaMoments : public cases::OnDevice {
  protected:
    MomentSums sums(const Basis& basis, const Array<double>& z, MomentOptions options = {}) const {
        MomentSums sums;
        add(context(), basis, z, options, sums);
        return sums;
    }
    static void add(const Context& context, const Basis& basis, const Array<double>& z,
                    const MomentOptions& options, MomentSums& sums) {
        accumulate_moments(context, basis.plan, basis.reference, Basis::source(z), options, sums);
    }
};
INSTANTIATE_TEST_SUITE_P(Run, CudaMoments, testing::ValuesIn(cases::device_runs()), cases::run_name);

// ---- which row is which sample

TEST(MomentTiles, HoldEveryRowOnce) {
    for (const size_t rows : {1u, 4u, 5u, 31u, 320u, 1279u, 1280u, 1281u, 2565u, 10007u}) {
        const cuda::MomentBatch batch{rows, 0};
        std::vector<int> seen(rows);
        for (int tile = 0; tile < cuda::tiles(batch); ++tile)
            for (int s = 0; s < cuda::tile_samples(batch, tile); ++s) {
                const size_t row = cuda::tile_row(tile, s);
                ASSERT_LT(row, rows);
                EXPECT_EQ(row % 5 == 4, cuda::is_held_out(tile));
                ++seen[row];
            }
        for (const int times : seen) ASSERT_EQ(times, 1) << rows;
    }
}

// ---- functions

/// One site's functions of all rows, by evaluate_functions() in units of 1 280 rows.
template <class T>
std::vector<T> evaluate(DeviceState& device, const Family& family, const Array<double>& z) {
    const kernels::FunctionTable<T> table = function_table<T>(family);
    const int functions = table.functions;
    std::vector<T> coefficients = table.coefficients;
    if (table.hermite)
        for (int n = 0; n < functions; ++n)
            coefficients.push_back(static_cast<T>(std::sqrt(n))),
                coefficients.push_back(static_cast<T>(1 / std::sqrt(n + 1.0)));
    const auto c = to_device(device, std::span<const T>(coefficients), "coefficients");
    const cuda::DeviceFunctions<T> one{table.hermite,
                                       functions,
                                       table.pieces,
                                       table.degree,
                                       table.stride,
                                       static_cast<T>(table.lo),
                                       static_cast<T>(table.pieces / (table.hi - table.lo)),
                                       c.data()};
    const auto families = to_device(device, std::span<const cuda::DeviceFunctions<T>>(&one, 1), "families");
    const int first_family = 0;
    const auto family_of = to_device(device, std::span<const int>(&first_family, 1), "families");
    const auto rows = to_device(device, z.span(), "rows");
    const cuda::MomentBatch batch{z.size(), 0};
    DeviceArray<T> out(device, static_cast<size_t>(cuda::tiles(batch) * functions * kernels::kMomentTile),
                       "functions");
    cuda::evaluate_functions(device.compute_stream(),
                             cuda::MomentEvaluation<T>{batch, 1, functions - 1, functions, families.data(),
                                                       family_of.data(), rows.data(), out.data()});
    return to_host(device, out);
}

/// Roundings of a function on either backend, relative to |phi| + |phi'| / rate: those of tolerance::table()
/// without the interpolation, which is the same polynomial here.
template <class T> double rounding(const Family& family, int n, double z, double rate) {
    if (family.kind == ReferenceKind::hermite) return 2 * tolerance::hermite(n, z, tolerance::unit<T>);
    return 2 *
           (tolerance::table(rate, family.hi - family.lo, 256, sizeof(T) == 4 ? 3 : 7, tolerance::unit<T>) -
            tolerance::chebyshev(rate, (family.hi - family.lo) / 256, sizeof(T) == 4 ? 3 : 7));
}

template <class T> void expect_functions(DeviceState& device, const Family& family, size_t count) {
    constexpr int size = kernels::kMomentTile;
    const Array<double> z = cases::rows(count, 1, 11);
    const std::vector<T> found = evaluate<T>(device, family, z);
    const kernels::FunctionTable<T> table = function_table<T>(family);
    const int functions = table.functions;
    std::vector<double> phi(static_cast<size_t>(functions)), slope(phi);
    std::vector<T> column(size), expected(static_cast<size_t>(functions * size), 1); // function 0 is 1
    const cuda::MomentBatch batch{count, 0};
    for (int tile = 0; tile < cuda::tiles(batch); ++tile) {
        const int samples = cuda::tile_samples(batch, tile);
        for (int s = 0; s < samples; ++s)
            column[static_cast<size_t>(s)] = static_cast<T>(z[cuda::tile_row(tile, s)]);
        kernels::moment_kernels<T>(best_isa()).evaluate(table, column.data(), samples, expected.data());
        for (int s = 0; s < samples; ++s) {
            const double x = column[static_cast<size_t>(s)];
            eigenfunctions(family, x, functions, phi.data(), slope.data());
            for (int n = 0; n < functions; ++n) {
                const auto k = static_cast<size_t>(n);
                const double rate = n ? std::max(std::sqrt(family.lambda[k]), std::abs(family.dv(x))) : 1;
                ASSERT_NEAR(found[static_cast<size_t>((tile * functions + n) * size + s)],
                            expected[static_cast<size_t>(n * size + s)],
                            (std::abs(phi[k]) + std::abs(slope[k]) / rate) * rounding<T>(family, n, x, rate))
                    << x << ' ' << n;
            }
        }
    }
}

TEST_P(CudaMoments, FunctionsAreThoseOfTheCpu) {
    const Reference fitted = cases::fitted_reference(2);
    for (const size_t count : {1u, 31u, 10007u})
        for (const Family& family : {hermite_family(12), fitted.families[0], fitted.families[1]}) {
            expect_functions<double>(device(), family, count);
            expect_functions<float>(device(), family, count);
        }
}

// ---- against the direct sum; bounds: Naive

TEST_P(CudaMoments, AveragesAreThoseOfTheDirectSum) {
    for (const cases::MomentLayout& layout : moment_layouts) {
        const Basis basis = make(layout);
        for (const size_t rows : {1u, 31u}) {
            const Array<double> z = cases::rows(rows, static_cast<size_t>(layout.sites), 3);
            Naive<double>(basis, z, Subset::all).expect(basis.averages(context(), z));
            Naive<float>(basis, z, Subset::all).expect(basis.averages(context(), z, Subset::all, true));
        }
    }
}

TEST_P(CudaMoments, TrainingAndHeldOutRowsAreSplitByFives) {
    const Basis basis = make(moment_layouts[4]);
    const Array<double> z = cases::rows(1700, 3, 5);
    for (const Subset subset : {Subset::train, Subset::test})
        Naive<double>(basis, z, subset).expect(basis.averages(context(), z, subset));
}

TEST_P(CudaMoments, ManyRowsInBothPrecisions) {
    static const Basis basis = make({"", false, false, 3, 4, 2, 0});
    static const Array<double> z = cases::rows(10007, 3, 6);
    static const Naive<double> all(basis, z, Subset::all);
    static const Naive<float> test(basis, z, Subset::test);
    all.expect(basis.averages(context(), z));
    test.expect(basis.averages(context(), z, Subset::test, true));
}

TEST_P(CudaMoments, MixedPairDegreesAndFamilies) {
    Reference reference = cases::fitted_reference(4);
    reference.family_of = {1, 1, 0, 1};
    const Basis basis(reference,
                      make_index_set(4, 4, {{0, 1, 4}, {0, 3, 1}, {1, 2, 2}, {2, 3, 3}}, 0, false));
    const Array<double> z = cases::rows(300, 4, 8);
    Naive<double>(basis, z, Subset::all).expect(basis.averages(context(), z));
}

// ---- division of the work

TEST_P(CudaMoments, BatchesAndMemoryLeaveTheSameBytes) {
    const Basis basis = make({"", false, true, 2, 3, 2, 0});
    const Array<double> z = cases::rows(5407, 2, 9);
    for (const bool single : {false, true}) {
        const MomentSums one = sums(basis, z, {single, 0, {}});
        const auto expect_with = [&](const Context& context, const MomentOptions& options) {
            MomentSums sums;
            add(context, basis, z, options, sums);
            expect_same(sums, one);
            return context.device_state().memory_peak();
        };
        const std::uint64_t slab = expect_with(cases::device_context(), {single, 1, {}}); // one at a time
        // Just not enough for that and a margin: no partial sums, blocks add their slabs by themselves.
        EXPECT_LT(expect_with(cases::device_context(slab), {single, 0, {}}), slab);
    }
}

TEST_P(CudaMoments, SumsThatContinueAreThoseOfOneRun) {
    const Basis basis = make({"", false, true, 2, 3, 2, 0});
    const Array<double> z = cases::rows(5407, 2, 9);
    const MomentSums whole = sums(basis, z);
    struct Stop {};
    MomentSums sums;
    const MomentOptions options{false, 5120, [](const MomentSums& s) {
                                    if (s.next_row == 5120) throw Stop{};
                                }};
    EXPECT_THROW(add(context(), basis, z, options, sums), Stop);
    EXPECT_EQ(sums.next_row, 5120u);
    add(context(), basis, z, {}, sums);
    expect_same(sums, whole);
}

TEST_P(CudaMoments, SumsOfTheCpuAreContinued) { // they may end within a slab
    const Basis basis = make({"", false, true, 2, 3, 2, 0});
    const Array<double> z = cases::rows(5407, 2, 9);
    struct Stop {};
    MomentSums sums;
    const MomentOptions options{false, 1280, [](const MomentSums& s) {
                                    if (s.next_row == 3840) throw Stop{};
                                }};
    EXPECT_THROW(add(Context({.device = Device::cpu, .threads = 1}), basis, z, options, sums), Stop);
    add(context(), basis, z, {}, sums);
    EXPECT_EQ(sums.next_row, 5407u);
    Naive<double>(basis, z, Subset::train).expect(moment_averages(sums, Subset::train));
}

// ---- what goes wrong

TEST_P(CudaMoments, WhatTheSourceThrowsPassesThrough) {
    const Basis basis = make(moment_layouts[0]);
    const SampleSource broken{20000, [](size_t first, size_t, double*) {
                                  if (first > 0) throw Error(ErrorKind::input, "row 5121");
                              }};
    MomentSums sums;
    cases::expect_error(
        ErrorKind::input,
        [&] {
            accumulate_moments(context(), basis.plan, basis.reference, broken, {false, 5120, {}}, sums);
        },
        "row 5121");
    EXPECT_EQ(sums.next_row, 5120u);
}

TEST_P(CudaMoments, TooLittleMemoryIsAnErrorThatNamesWhatItIsFor) {
    const Basis basis = make(moment_layouts[4]);
    const Context small = cases::device_context(1 << 20);
    MomentSums sums;
    cases::expect_error(
        ErrorKind::io, [&] { add(small, basis, cases::rows(10, 3, 1), {}, sums); }, "device memory: the");
}

#if DYNKIN_EMULATED
class CudaMomentsMemory : public CudaMoments {};
INSTANTIATE_TEST_SUITE_P(Run, CudaMomentsMemory, testing::Values(cases::device_runs().front()),
                         cases::run_name);

TEST_P(CudaMomentsMemory, EachAllocationMayFail) {
    const Basis basis = make(moment_layouts[0]);
    const Array<double> z = cases::rows(10, 1, 1);
    EXPECT_GE(cases::expect_each_allocation_may_fail([&](const Context& context) {
                  MomentSums sums;
                  add(context, basis, z, {}, sums);
              }),
              10);
}
#endif

} // namespace
} // namespace dynkin
