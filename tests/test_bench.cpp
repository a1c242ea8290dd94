// test_bench.cpp - the statistics of `dynkin bench`, and the sizes it refuses. The program:
// cli/test_bench.cpp.
#include "bench/bench.h"
#include "cases.h"

namespace dynkin {
namespace {

TEST(Bench, SpreadsByHand) {
    const bench::Spread four = bench::spread_of({4, 1, 3, 2}), one = bench::spread_of({5});
    EXPECT_DOUBLE_EQ(four.median, 2.5);
    EXPECT_DOUBLE_EQ(four.least, 1);
    EXPECT_DOUBLE_EQ(four.lower, 1.75);
    EXPECT_DOUBLE_EQ(four.upper, 3.25);
    EXPECT_DOUBLE_EQ(one.median, 5);
    EXPECT_DOUBLE_EQ(one.upper, 5);
    EXPECT_DOUBLE_EQ(bench::spread_of({}).median, 0);
}

TEST(Bench, SizesAreChosenOrKept) {
    const Context context = cases::context(2);
    bench::Options asked;
    asked.dimension = 7, asked.samples = 65;
    const bench::Options found = bench::resolved(context, asked);
    EXPECT_EQ(found.dimension, 7u);
    EXPECT_EQ(found.samples, 128u); // whole tiles
    EXPECT_EQ(found.nodes, 2u);     // a system a thread
    EXPECT_GT(found.degree, 0);
    EXPECT_GT(found.repeats, 0);
    asked.stages = {"moments", "everything"};
    cases::expect_error(
        ErrorKind::usage, [&] { bench::resolved(context, asked); }, "stage 'everything'");
}

} // namespace
} // namespace dynkin
