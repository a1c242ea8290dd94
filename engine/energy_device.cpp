// energy_device.cpp - uploads laws; streams rows of the host through the device in parts, two of them in
// flight.
#include "energy_device.h"
#include "kernels/device_times.h"
#include <algorithm>
#include <span>
#include <variant>

namespace dynkin {

DeviceLaw::DeviceLaw(DeviceState& device, const EnergyView& host)
    : device_(device), view_(std::visit([this](const auto& law) { return EnergyView(copy(law)); }, host)) {}

const double* DeviceLaw::numbers(const double* host, std::size_t count) {
    return numbers_.emplace_back(to_device(device_, std::span(host, count), "the target's numbers")).data();
}
const std::int32_t* DeviceLaw::places(const std::int32_t* host, std::size_t count) {
    return places_.emplace_back(to_device(device_, std::span(host, count), "the target's neighbours")).data();
}

LatticeView DeviceLaw::copy(const LatticeView& host) {
    const std::size_t d = host.dimension;
    LatticeView law = host;
    law.first = places(host.first, d + 1);
    law.forward = places(host.forward, d);
    law.neighbour = places(host.neighbour, static_cast<std::size_t>(host.first[d]));
    law.outer = numbers(host.outer, d);
    law.outer_sum = numbers(host.outer_sum, d), law.outer_square = numbers(host.outer_square, d);
    return law;
}

GaussianView DeviceLaw::copy(const GaussianView& host) {
    const std::size_t d = host.dimension;
    return {d, numbers(host.mean, d), numbers(host.cholesky, d * d), host.log_normaliser};
}

MixtureView DeviceLaw::copy(const MixtureView& host) {
    std::vector<GaussianView> components;
    for (std::size_t k = 0; k < host.components; ++k) components.push_back(copy(host.component[k]));
    components_ = to_device(device_, std::span<const GaussianView>(components), "the target's components");
    return {host.dimension, host.components, components_.data(), numbers(host.log_weight, host.components)};
}

namespace {

constexpr std::size_t part_numbers = std::size_t{1} << 18; // of rows in one copy, 2 MiB

/// One part of the rows on its way: uploaded on the copy stream, so that it runs beside the kernel of the
/// other part; computed and downloaded on the other stream.
struct Part {
    PinnedArray<double> rows_in, energies_out, gradients_out;
    DeviceArray<double> rows, energies, gradients;
    DeviceEvent uploaded, done;
    std::size_t first = 0, count = 0; // in flight; 0: none

    void release() {
        rows_in = {}, rows = {}, energies_out = {}, energies = {}, gradients_out = {}, gradients = {};
    }
    void allocate(DeviceState& device, std::size_t capacity, std::size_t d, bool with_gradients) {
        rows_in = {device, capacity * d, "rows of samples"};
        energies_out = {device, capacity, "energies"};
        rows = {device, capacity * d, "rows of samples"};
        energies = {device, capacity, "energies"};
        if (!with_gradients) return;
        gradients_out = {device, capacity * d, "gradients"};
        gradients = {device, capacity * d, "gradients"};
    }
};

} // namespace

class DeviceEnergy {
  public:
    DeviceEnergy(DeviceState& device, const EnergyView& host)
        : device_(device), law_(device, host), d_(dimension(host)) {}

    void operator()(std::size_t count, const double* x, double* energies, double* gradients) {
        prepare(count, gradients != nullptr);
        std::size_t place = 0;
        for (std::size_t first = 0; first < count; first += capacity_, place ^= 1) {
            collect(parts_[place], energies, gradients);
            send(parts_[place], first, std::min(capacity_, count - first), x, gradients != nullptr);
        }
        collect(parts_[place], energies, gradients);
        collect(parts_[place ^ 1], energies, gradients);
    }

  private:
    /// As many rows in a part as are wanted, are worth it, and fit.
    void prepare(std::size_t count, bool with_gradients) {
        const std::size_t wanted = std::min(count, std::max<std::size_t>(part_numbers / d_, 1));
        if (wanted <= capacity_ && with_gradients <= with_gradients_) return;
        for (Part& part : parts_) part.release();
        capacity_ = 0, with_gradients_ = with_gradients;
        const std::size_t row = 2 * sizeof(double) * (d_ + 1 + (with_gradients ? d_ : 0));
        const std::size_t slack = 6 * 256; // of the allocator
        const std::size_t left = device_.memory_left() - std::min(device_.memory_left(), slack);
        const std::size_t fitting = std::clamp<std::size_t>(left / row, 1, wanted);
        for (Part& part : parts_) part.allocate(device_, fitting, d_, with_gradients);
        capacity_ = fitting;
    }
    void send(Part& part, std::size_t first, std::size_t count, const double* x, bool with_gradients) {
        part.first = first, part.count = count;
        std::copy_n(x + first * d_, count * d_, part.rows_in.data());
        part.rows.upload(device_.copy_stream(), part.rows_in.span().first(count * d_));
        part.uploaded.record(device_.copy_stream());
        const DeviceStream stream = device_.compute_stream();
        part.uploaded.hold_up(stream);
        timed(device_, "energy", [&] {
            cuda::energy_gradient(stream, law_.view(), count, part.rows.data(), part.energies.data(),
                                  with_gradients ? part.gradients.data() : nullptr);
        });
        part.energies.download(stream, part.energies_out.span().first(count));
        if (with_gradients) part.gradients.download(stream, part.gradients_out.span().first(count * d_));
        part.done.record(stream);
    }
    void collect(Part& part, double* energies, double* gradients) {
        if (part.count == 0) return;
        part.done.synchronize();
        std::copy_n(part.energies_out.data(), part.count, energies + part.first);
        if (gradients) std::copy_n(part.gradients_out.data(), part.count * d_, gradients + part.first * d_);
        part.count = 0;
    }

    DeviceState& device_;
    DeviceLaw law_;
    std::size_t d_, capacity_ = 0;
    bool with_gradients_ = false;
    Part parts_[2];
};

std::shared_ptr<DeviceEnergy> make_device_energy(DeviceState& device, const EnergyView& host) {
    return std::make_shared<DeviceEnergy>(device, host);
}

void energy_on_device(DeviceEnergy& energy, std::size_t count, const double* x, double* energies,
                      double* gradients) {
    energy(count, x, energies, gradients);
}

} // namespace dynkin
