// test_cuda_chain.cpp - exact draws of chains and rings on the device: bit for bit those of the CPU, and
// their law.
#include "device_cases.h"
#include "engine/error.h"
#include "engine/transfer_matrix.h"
#include "tolerance.h"
#include <cmath>

namespace dynkin {
namespace {

LatticeTarget chain(std::size_t d, Boundary boundary, double coupling, std::vector<double> site) {
    LatticeTarget law;
    law.lattice.shape = {d}, law.lattice.boundary = boundary;
    law.coupling = coupling, law.site = std::move(site);
    return law;
}

class CudaChain : public cases::OnDevice {
  protected:
    static std::vector<double> draw(const Context& where, const TransferMatrix& matrix, std::size_t d,
                                    std::size_t first, std::size_t count) {
        std::vector<double> x(count * d);
        matrix.draw(where, 5, first, count, x.data());
        return x;
    }
    const Context host_{ContextOptions{.device = Device::cpu, .threads = 1}};
};
INSTANTIATE_TEST_SUITE_P(Run, CudaChain, testing::ValuesIn(cases::device_runs()), cases::run_name);

TEST_P(CudaChain, SameBitsAsTheCpu) {
    const std::vector<double> wells = {0.1, -2, 0, 1};
    for (const Boundary boundary : {Boundary::zero, Boundary::free, Boundary::periodic})
        for (const double coupling : {1.1, 0.0, 40.0}) // the window is the whole box without coupling
            for (const std::size_t d : {1u, 2u, 7u}) {
                const TransferMatrix matrix(chain(d, boundary, coupling, wells));
                for (const std::size_t count : {1u, 31u})
                    EXPECT_EQ(draw(context(), matrix, d, 3, count), draw(host_, matrix, d, 3, count))
                        << d << ' ' << coupling << ' ' << count;
            }
}

TEST_P(CudaChain, ManyRowsInPartsOfAnySize) {
    const std::size_t d = 3, count = 20'011; // 480 KB
    const TransferMatrix matrix(chain(d, Boundary::periodic, 1.1, {0, -2, 0, 1}));
    const std::vector<double> expected = draw(host_, matrix, d, 0, count);
    EXPECT_EQ(draw(context(), matrix, d, 0, count), expected);
    const Context narrow = cases::device_context(1 << 20);
    EXPECT_EQ(draw(narrow, matrix, d, 0, count), expected);
    EXPECT_TRUE(draw(context(), matrix, d, 0, 0).empty());
}

// x of a free chain of two sites with V = x^2/2 and J = 1 has the inverse covariance ((2, -1), (-1, 2)), so
// variance 2/3 and covariance 1/3. The fourth moment of a normal variable gives the error of its square,
// sqrt(2/N) of it.
TEST_P(CudaChain, GaussianMoments) {
    const std::size_t count = 10'007;
    const TransferMatrix matrix(chain(2, Boundary::free, 1, {0, 0.5}));
    const std::vector<double> x = draw(context(), matrix, 2, 0, count);
    double square = 0, product = 0;
    for (std::size_t n = 0; n < count; ++n) square += x[2 * n] * x[2 * n], product += x[2 * n] * x[2 * n + 1];
    const double error = std::sqrt(2.0 / static_cast<double>(count)) * 2 / 3;
    EXPECT_NEAR(square / static_cast<double>(count), 2.0 / 3, tolerance::z_bound * error);
    EXPECT_NEAR(product / static_cast<double>(count), 1.0 / 3, tolerance::z_bound * error);
}

TEST_P(CudaChain, TooLittleMemoryIsSaid) {
    const TransferMatrix matrix(chain(3, Boundary::periodic, 1.1, {0, -2, 0, 1}));
    try {
        draw(cases::device_context(3'000), matrix, 3, 0, 1);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::io);
        EXPECT_NE(std::string(error.what()).find("tables of a chain"), std::string::npos) << error.what();
    }
}

} // namespace
} // namespace dynkin
