// test_moments.cpp - every average the plan promises against a direct sum; the same bytes however the work is
// divided.
#include "engine/error.h"
#include "moment_oracle.h"

namespace dynkin {
namespace {

using cases::Basis;
using cases::expect_same;
using cases::make;
using cases::moment_layouts;
using cases::MomentLayout;
using cases::Naive;
using std::size_t;

template <class T> void expect_promised(const Basis& basis, const Array<double>& z,
                                        const std::vector<Context>& contexts, Subset subset) {
    const Naive<T> naive(basis, z, subset);
    for (const Context& context : contexts) naive.expect(basis.averages(context, z, subset, sizeof(T) == 4));
}

std::vector<Context> every_level(int threads) {
    std::vector<Context> contexts;
    for (Isa isa : cases::isas()) contexts.push_back(cases::context(threads, isa));
    return contexts;
}

class Promises : public testing::TestWithParam<MomentLayout> {};
INSTANTIATE_TEST_SUITE_P(Layout, Promises, testing::ValuesIn(moment_layouts));

TEST_P(Promises, AverageIsThatOfTheDirectSumAtEveryLevel) {
    const Basis basis = make(GetParam());
    for (size_t rows : {1u, 31u, 300u}) {
        const Array<double> z = cases::rows(rows, static_cast<size_t>(GetParam().sites), 3);
        expect_promised<double>(basis, z, every_level(1), Subset::all);
    }
}

TEST_P(Promises, SinglePrecisionStaysWithinItsRounding) {
    const Basis basis = make(GetParam());
    const Array<double> z = cases::rows(300, static_cast<size_t>(GetParam().sites), 4);
    expect_promised<float>(basis, z, every_level(2), Subset::all);
}

TEST_P(Promises, TrainingAndHeldOutRowsAreSplitByFives) {
    const Basis basis = make(GetParam());
    for (size_t rows : {4u, 9u, 259u}) {
        const Array<double> z = cases::rows(rows, static_cast<size_t>(GetParam().sites), 5);
        expect_promised<double>(basis, z, {cases::context(2)}, Subset::train);
        expect_promised<double>(basis, z, {cases::context(2)}, Subset::test);
    }
}

TEST(Moments, ManyRowsInBothPrecisions) {
    for (bool fitted : {false, true}) {
        const Basis basis = make({"", fitted, false, 3, 4, 2, 0});
        const Array<double> z = cases::rows(cases::sized(10'007u, 1009u), 3, 6);
        expect_promised<double>(basis, z, {cases::context(2)}, Subset::all);
        expect_promised<float>(basis, z, {cases::context(2)}, Subset::test);
    }
}

// A reference that is not the one of an equal basis: families in another order, a site that shares none.
TEST(Moments, MixedPairDegreesAndFamilies) {
    Reference reference = cases::fitted_reference(4);
    reference.family_of = {1, 1, 0, 1};
    const Basis basis(reference,
                      make_index_set(4, 4, {{0, 1, 4}, {0, 3, 1}, {1, 2, 2}, {2, 3, 3}}, 0, false));
    expect_promised<double>(basis, cases::rows(300, 4, 8), {cases::context(1)}, Subset::all);
}

// ---- division of the work

MomentSums run(const Basis& basis, const Array<double>& z, int threads, size_t batch, bool single,
               std::function<void(const MomentSums&)> after = {}) {
    MomentSums sums;
    accumulate_moments(cases::context(threads), basis.plan, basis.reference, Basis::source(z),
                       {single, batch, after}, sums);
    return sums;
}

class Division : public testing::TestWithParam<MomentLayout> {};
INSTANTIATE_TEST_SUITE_P(Layout, Division,
                         testing::Values(moment_layouts[4], moment_layouts[9], moment_layouts[10],
                                         moment_layouts[11]));

TEST_P(Division, ThreadsAndBatchesLeaveTheSameBytes) {
    const Basis basis = make(GetParam());
    const Array<double> z = cases::rows(6007, static_cast<size_t>(GetParam().sites), 9);
    for (bool single : {false, true}) {
        const MomentSums one = run(basis, z, 1, 0, single);
        for (int threads : {2, 3, 7}) expect_same(run(basis, z, threads, 0, single), one);
        for (size_t batch : {1u, 1280u, 1281u, 5000u, 100000u})
            expect_same(run(basis, z, 2, batch, single), one);
    }
}

TEST_P(Division, SumsThatContinueAreThoseOfOneRun) {
    const Basis basis = make(GetParam());
    const Array<double> z = cases::rows(6007, static_cast<size_t>(GetParam().sites), 9);
    const MomentSums whole = run(basis, z, 2, 0, false);
    struct Stop {};
    const std::uint64_t unit = cases::on_device() ? 5120 : 1280; // rows of a batch
    for (std::uint64_t stop : {unit, 3 * unit}) {
        if (stop > z.rows()) continue;
        MomentSums sums;
        const MomentOptions options{false, unit, [&](const MomentSums& s) {
                                        if (s.next_row == stop) throw Stop{};
                                    }};
        EXPECT_THROW(accumulate_moments(cases::context(2), basis.plan, basis.reference, Basis::source(z),
                                        options, sums),
                     Stop);
        EXPECT_EQ(sums.next_row, stop);
        accumulate_moments(cases::context(1), basis.plan, basis.reference, Basis::source(z), {}, sums);
        expect_same(sums, whole);
    }
}

TEST(Moments, CountsAreThoseOfTheRows) {
    const Basis basis = make(moment_layouts[0]);
    for (size_t rows : {1u, 4u, 5u, 1284u, 1285u}) {
        const MomentSums sums = run(basis, cases::rows(rows, 1, 1), 1, 0, false);
        EXPECT_EQ(sums.test_rows, rows / 5);
        EXPECT_EQ(sums.train_rows, rows - rows / 5);
        EXPECT_EQ(sums.next_row, rows);
    }
}

TEST(Moments, AveragesOfAllAreThoseOfBothParts) {
    const Basis basis = make(moment_layouts[2]);
    const MomentSums sums = run(basis, cases::rows(1001, 3, 2), 1, 0, false);
    const auto train = moment_averages(sums, Subset::train), test = moment_averages(sums, Subset::test),
               all = moment_averages(sums, Subset::all);
    for (size_t k = 0; k < all.size(); ++k)
        EXPECT_NEAR(all[k] * 1001, train[k] * 801 + test[k] * 200,
                    1e-12 * (std::abs(train[k] * 801) + std::abs(test[k] * 200)));
}

TEST(Moments, SumsOfAnotherPlanAreRefused) {
    const Basis basis = make(moment_layouts[2]), other = make(moment_layouts[0]);
    MomentSums sums = run(other, cases::rows(10, 1, 2), 1, 0, false);
    const Array<double> z = cases::rows(10, 3, 2);
    cases::expect_error(
        ErrorKind::usage,
        [&] {
            accumulate_moments(cases::context(1), basis.plan, basis.reference, Basis::source(z), {}, sums);
        },
        "another plan");
}

TEST(Moments, WhatTheSourceThrowsPassesThrough) {
    const Basis basis = make(moment_layouts[2]);
    const SampleSource broken{10, [](size_t, size_t, double*) { throw Error(ErrorKind::input, "row 3"); }};
    MomentSums sums;
    cases::expect_error(
        ErrorKind::input,
        [&] { accumulate_moments(cases::context(2), basis.plan, basis.reference, broken, {}, sums); },
        "row 3");
}

TEST(MomentPlan, UnknownFeaturesAreErrors) {
    const Basis basis = make(moment_layouts[2]);
    EXPECT_EQ(basis.plan.feature(0, -1, 0), 0);
    cases::expect_error(
        ErrorKind::usage, [&] { basis.plan.feature(0, 0, 1); }, "no such feature");
    cases::expect_error(
        ErrorKind::usage, [&] { basis.plan.feature(0, 1, 4); }, "no such feature");
}

TEST(MomentPlan, EvenBasesNeedFewerSums) {
    EXPECT_LT(make(moment_layouts[5]).plan.multiply_adds(),
              0.6 * make(moment_layouts[4]).plan.multiply_adds());
}

} // namespace
} // namespace dynkin
