// training.cpp - network, batches, AdamW and the average of the weights.
#include "training.h"
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <cmath>
#include <dynkin/progress.h>
#include <fmt/format.h>
#include <numeric>
#include <torch/nn.h>
#include <torch/optim.h>

namespace neural_prior {

using dynkin::Array;
using dynkin::Error;
using dynkin::ErrorKind;
using std::size_t;
using torch::Tensor;

double TrainingOptions::lowest_sigma() const { return std::exp(sigma_mean - 4 * sigma_sd); }
double TrainingOptions::highest_sigma() const { return std::exp(sigma_mean + 4 * sigma_sd); }

double Point::mean() const {
    return std::accumulate(loss.begin(), loss.end(), 0.0) / static_cast<double>(loss.size());
}

namespace {

std::int64_t integer(size_t n) { return static_cast<std::int64_t>(n); }

/// Rows with a noise level each, and what stands beside the network there.
struct Batch {
    Tensor input, base, residual; ///< rows x (d + 8), rows x d, rows x 1
};

/// x / sqrt(sigma^2 + 1) and waves in log sigma, P and r. `sigma` as in Base.
Batch prepare(const Preconditioning& around, const Tensor& x, const std::vector<double>& sigma) {
    const size_t rows = sigma.size();
    Batch out{{}, torch::empty_like(x), torch::empty({integer(rows), 1})};
    Tensor scale = torch::empty({integer(rows), 1}), waves = torch::empty({integer(rows), 8});
    for (size_t n = 0; n < rows; ++n) {
        scale.data_ptr<float>()[n] = static_cast<float>(1 / std::sqrt(1 + sigma[n] * sigma[n]));
        out.residual.data_ptr<float>()[n] = static_cast<float>(around.residual(sigma[n]));
        for (size_t k = 0; k < 4; ++k) {
            const double angle = 0.25 * std::log(sigma[n]) * static_cast<double>(1 << k);
            waves.data_ptr<float>()[8 * n + 2 * k] = static_cast<float>(std::sin(angle));
            waves.data_ptr<float>()[8 * n + 2 * k + 1] = static_cast<float>(std::cos(angle));
        }
    }
    around.base(rows, x.data_ptr<float>(), sigma.data(), out.base.data_ptr<float>());
    out.input = torch::cat({x * scale, waves}, 1);
    return out;
}

/// Sigmoid linear units between linear layers, the last of them zero, so that training starts from P.
torch::nn::Sequential make_network(size_t d, const TrainingOptions& options) {
    torch::manual_seed(options.seed);
    torch::nn::Sequential network;
    size_t from = d + 8;
    for (size_t k = 0; k < options.layers; ++k, from = options.width) {
        network->push_back(torch::nn::Linear(integer(from), integer(options.width)));
        network->push_back(torch::nn::SiLU());
    }
    torch::nn::Linear last(integer(from), integer(d));
    const torch::NoGradGuard no_gradients;
    last->weight.zero_(), last->bias.zero_();
    network->push_back(last);
    return network;
}

/// x with |x| <= 4 below which a standard normal number lies with probability p; bisection.
double normal_quantile(double p) {
    double low = -4, high = 4;
    for (int k = 0; k < 50; ++k) {
        const double middle = 0.5 * (low + high);
        (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
    }
    return low;
}

class Training {
  public:
    Training(const Array<float>& rows, const HeldOut& held_out, const Preconditioning& around,
             const Teacher& teacher, const TrainingOptions& options)
        : options_(options), around_(around), teacher_(teacher), held_out_(held_out),
          rows_(torch::from_blob(const_cast<float*>(rows.data()),
                                 {integer(rows.rows()), integer(rows.cols())})),
          network_(make_network(rows.cols(), options)),
          adam_(network_->parameters(),
                torch::optim::AdamWOptions(options.rate).weight_decay(options.weight_decay)),
          generator_(at::detail::createCPUGenerator(options.seed)) {
        for (const Tensor& weight : network_->parameters()) average_.push_back(weight.detach().clone());
        for (size_t level = 0; level < held_out.sigma.size(); ++level)
            judged_.push_back(prepare(around, held_out_tensor(held_out.x, level),
                                      std::vector<double>(held_out.rows, held_out.sigma[level])));
    }

    /// One step of AdamW; its loss.
    double step(size_t number) {
        const std::vector<double> sigma = draw_levels();
        const Tensor noise = torch::randn({integer(sigma.size()), rows_.size(1)}, generator_);
        const Tensor spread = torch::empty({integer(sigma.size()), 1});
        for (size_t n = 0; n < sigma.size(); ++n) spread.data_ptr<float>()[n] = static_cast<float>(sigma[n]);
        const Tensor clean = rows_.index_select(
            0, torch::randint(rows_.size(0), {integer(sigma.size())}, generator_, torch::kInt64));
        const Tensor x = clean + spread * noise;
        const Batch batch = prepare(around_, x, sigma);
        Tensor wanted = -noise;
        if (number <= teacher_.steps)
            teacher_.base(sigma.size(), x.data_ptr<float>(), sigma.data(), wanted.data_ptr<float>());
        adam_.zero_grad();
        const Tensor loss =
            (network_->forward(batch.input) - (wanted - batch.base) / batch.residual).square().mean();
        loss.backward();
        adam_.step();
        average(number);
        return loss.item<double>();
    }

    Point judge(size_t number) {
        const torch::NoGradGuard no_gradients;
        exchange();
        Point out{number, {}};
        for (size_t level = 0; level < judged_.size(); ++level) {
            const Batch& batch = judged_[level];
            const Tensor error = batch.base + batch.residual * network_->forward(batch.input) +
                                 held_out_tensor(held_out_.noise, level);
            out.loss.push_back(error.square().mean(torch::kFloat64).item<double>());
        }
        exchange();
        return out;
    }

  private:
    Tensor held_out_tensor(const Array<float>& of, size_t level) const {
        return torch::from_blob(const_cast<float*>(of.row(level * held_out_.rows)),
                                {integer(held_out_.rows), integer(of.cols())});
    }

    /// One level from each stratum of the log-normal law, ascending, for equally many rows.
    std::vector<double> draw_levels() {
        const Tensor u = torch::rand({integer(options_.levels)}, generator_);
        std::vector<double> sigma(options_.levels), out(options_.batch);
        for (size_t k = 0; k < sigma.size(); ++k) {
            const double p =
                (static_cast<double>(k) + u.data_ptr<float>()[k]) / static_cast<double>(sigma.size());
            sigma[k] = std::exp(options_.sigma_mean + options_.sigma_sd * normal_quantile(p));
        }
        for (size_t n = 0; n < out.size(); ++n) out[n] = sigma[n * sigma.size() / out.size()];
        return out;
    }

    void average(size_t number) {
        const torch::NoGradGuard no_gradients;
        const double steps = static_cast<double>(number),
                     decay = std::min(options_.average, (1 + steps) / (10 + steps));
        const std::vector<Tensor> weights = network_->parameters();
        for (size_t k = 0; k < weights.size(); ++k) average_[k].lerp_(weights[k], 1 - decay);
    }
    /// Weights and their average change places.
    void exchange() {
        std::vector<Tensor> weights = network_->parameters();
        for (size_t k = 0; k < weights.size(); ++k) {
            const Tensor kept = weights[k].clone();
            weights[k].copy_(average_[k]), average_[k].copy_(kept);
        }
    }

    TrainingOptions options_;
    const Preconditioning& around_;
    const Teacher& teacher_;
    const HeldOut& held_out_;
    Tensor rows_;
    torch::nn::Sequential network_;
    torch::optim::AdamW adam_;
    at::Generator generator_;
    std::vector<Tensor> average_;
    std::vector<Batch> judged_;
};

} // namespace

std::vector<Point> train(const dynkin::Context& context, const char* name, const Array<float>& rows,
                         const HeldOut& held_out, const Preconditioning& around, const Teacher& teacher,
                         const TrainingOptions& options, const std::vector<size_t>& judged_at) {
    at::set_num_threads(options.threads);
    Training training(rows, held_out, around, teacher, options);
    dynkin::Progress progress(context, name, options.steps);
    std::vector<Point> out;
    auto next = judged_at.begin();
    for (size_t number = 0; number <= options.steps; ++number) {
        if (progress.interrupted()) progress.throw_interrupted();
        if (number > 0) {
            const double loss = training.step(number);
            if (!std::isfinite(loss))
                throw Error(
                    ErrorKind::numerical,
                    fmt::format("{}, seed {}: the loss of step {} is not finite; a smaller --rate may help",
                                name, options.seed, number));
            progress.advance(1);
        }
        if (next != judged_at.end() && *next == number) out.push_back(training.judge(number)), ++next;
    }
    return out;
}

} // namespace neural_prior
