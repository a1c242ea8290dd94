#include "points.h"
#include "engine/error.h"
#include "run_state.h"
#include <algorithm>
#include <fmt/core.h>

namespace dynkin::app {

void check_points(const SampleFile& points, const Model& model, const std::string& model_path) {
    if (points.cols() != model.view.columns)
        throw Error(ErrorKind::input,
                    fmt::format("{}: expected {} numbers a point, the dimension of {}, got {}",
                                points.path().string(), model.view.columns, model_path, points.cols()));
}

void for_each_point_batch(const Context& context, const SampleFile& points, const Model& model,
                          const std::function<void(std::size_t, std::size_t, const double*)>& use) {
    const std::size_t given = batch_from_environment();
    const std::size_t batch =
        std::min(points.rows(),
                 given ? given : std::clamp<std::size_t>((1u << 21) / model.view.columns, 1024, 1 << 17));
    Array<double> x(batch, model.view.kept.size());
    for (std::size_t first = 0; first < points.rows(); first += batch) {
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
        const std::size_t count = std::min(batch, points.rows() - first);
        model.view.read(points, first, count, x.data());
        use(first, count, x.data());
    }
}

} // namespace dynkin::app
