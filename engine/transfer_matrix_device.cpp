// transfer_matrix_device.cpp - uploads the tables of a chain or ring and draws rows part by part.
#include "transfer_matrix_device.h"
#include <algorithm>
#include <span>
#include <vector>

namespace dynkin {
namespace {

/// What a view points to, on the device.
class DeviceTables {
  public:
    DeviceTables(DeviceState& device, const ChainView& host) : device_(device), view_(host) {
        const std::size_t rank = modes(host);
        view_.gauss = numbers(host.gauss - host.stride, 2 * host.stride + 1) + host.stride;
        view_.first = numbers(host.first, host.stride), view_.weight = numbers(host.weight, host.stride);
        view_.message = numbers(host.message, host.messages * host.stride);
        view_.power = host.ring ? numbers(host.power, host.sites * rank) : nullptr;
        if (!host.ring) return;
        rank_ = to_device(device, std::span(host.rank, host.sites + 1), "ranks of messages");
        view_.rank = rank_.data();
    }
    static std::size_t modes(const ChainView& host) { return host.ring ? host.rank[host.sites] : 0; }
    const ChainView& view() const { return view_; }

  private:
    const double* numbers(const double* host, std::size_t count) {
        return tables_.emplace_back(to_device(device_, std::span(host, count), "tables of a chain")).data();
    }
    DeviceState& device_;
    std::vector<DeviceArray<double>> tables_;
    DeviceArray<std::uint32_t> rank_;
    ChainView view_;
};

constexpr std::size_t most_teams = 16'384; // of eight threads: some 32 warps for each of 128 multiprocessors

} // namespace

bool draw_chains_on_device(DeviceState& device, const ChainView& host, std::uint64_t seed, std::size_t first,
                           std::size_t count, double* x) {
    const DeviceTables tables(device, host);
    const std::size_t d = host.sites, memory = cuda::chain_memory(host);
    // Half of what is left for the teams, and half of the rest for rows.
    const std::uint64_t left = device.memory_left();
    const std::size_t teams = std::clamp<std::size_t>(left / 2 / (memory * sizeof(double)), 1,
                                                      std::min(std::max<std::size_t>(count, 1), most_teams));
    DeviceArray<double> scratch(device, teams * memory, "densities of sites");
    DeviceArray<int> failed(device, teams, "flags of chains");
    const std::size_t part = std::clamp<std::size_t>(device.memory_left() / 2 / (d * sizeof(double)), 1,
                                                     std::max<std::size_t>(count, 1));
    DeviceArray<double> rows(device, part * d, "rows of chains");
    const DeviceStream stream = device.compute_stream();
    bool good = true;
    for (std::size_t n = 0; n < count; n += part) {
        const std::size_t now = std::min(part, count - n);
        cuda::draw_chains(stream, tables.view(), DeviceTables::modes(host), seed, first + n, now, rows.data(),
                          {std::min(teams, now), scratch.data(), failed.data()});
        rows.download(stream, std::span(x + n * d, now * d));
        std::vector<int> flags(std::min(teams, now));
        failed.download(stream, flags);
        cuda::synchronize(stream);
        good = good && std::none_of(flags.begin(), flags.end(), [](int flag) { return flag != 0; });
    }
    return good;
}

} // namespace dynkin
