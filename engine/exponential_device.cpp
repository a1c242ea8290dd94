// exponential_device.cpp - exp of a matrix by products of cuBLAS.
#include "exponential_device.h"
#include "../kernels/device_times.h"
#include "../kernels/prior_cuda.h"
#include "../kernels/solve_cuda.h"
#include <cmath>

namespace dynkin {

using std::size_t;

DeviceExponential::DeviceExponential(DeviceState& device, size_t size)
    : device_(device), size_(size),
      matrices_(device, exponential_matrices * size * size, "a matrix exponential") {}

void DeviceExponential::product(int a, int b, int to) {
    cuda::product(device_, false, size_, size_, size_, at(a), at(b), at(to));
}

void DeviceExponential::sum(double diagonal, MatrixTerms terms, int to) {
    cuda::MatrixSum sum{size_, diagonal, {}, at(to)};
    int count = 0;
    for (const auto& [factor, matrix] : terms) sum.terms[count++] = {factor, at(matrix)};
    cuda::matrix_sum(device_.compute_stream(), sum);
}

const double* DeviceExponential::run(const double* a, double factor, double norm) {
    const int squarings = exponential_squarings(norm);
    int result = 0;
    timed(device_, "exponential", [&] {
        cuda::matrix_sum(device_.compute_stream(), {size_, 0, {{std::ldexp(factor, -squarings), a}}, at(0)});
        result = scaled_exponential(*this, squarings);
    });
    return at(result);
}

Array<double> matrix_exponential_on_device(const Context& context, const Array<double>& a, double norm) {
    DeviceState& device = context.device_state();
    device.libraries();
    DeviceExponential exponential(device, a.rows());
    const DeviceArray<double> there = to_device(device, a.span(), "a matrix exponential");
    const double* result = exponential.run(there.data(), 1, norm);
    Array<double> out(a.rows(), a.cols());
    cuda::copy_to_host(device.compute_stream(), out.data(), result, out.size() * sizeof(double));
    cuda::synchronize(device.compute_stream());
    require_finite_exponential(out.data(), out.size());
    return out;
}

} // namespace dynkin
