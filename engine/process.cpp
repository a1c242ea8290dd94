#include "process.h"
#include <array>

namespace dynkin {

const char* process_name(const Process& process) {
    static constexpr std::array<const char*, std::variant_size_v<Process>> names = {
        "fitted", "ou", "ve", "box", "torus", "linear", "nonlinear"};
    return names[process.index()];
}

} // namespace dynkin
