// dynkin_c.cpp - the interface for C: every exception ends here, as a status and a line of text.
#include "dynkin_c.h"
#include "error.h"
#include "prior.h"
#include <cstdio>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>

using namespace dynkin;

struct dynkin_prior {
    Prior prior;
    int threads;
    template <class T> struct Lazy {
        std::once_flag once;
        std::optional<PriorScore<T>> score;
    };
    /// The evaluators on one device, made when they are first asked for.
    struct Place {
        Context context;
        Lazy<float> single;
        Lazy<double> twice;
    };
    std::unique_ptr<Place> place;

    dynkin_prior(const Context& where, Prior fitted, int asked)
        : prior(std::move(fitted)), threads(asked), place(new Place{where, {}, {}}) {}
    template <class T> const PriorScore<T>& score(Lazy<T>& lazy) const {
        std::call_once(lazy.once, [&] { lazy.score.emplace(place->context, prior); });
        return *lazy.score;
    }
};

namespace {

thread_local char last_error[1024] = "";

dynkin_status fail(int status, const char* what) {
    std::snprintf(last_error, sizeof last_error, "%s", what);
    return static_cast<dynkin_status>(status);
}

template <class Body> dynkin_status guarded(const Body& body) noexcept {
    try {
        body();
        return DYNKIN_OK;
    } catch (const Error& error) {
        return fail(static_cast<int>(error.kind()), error.what());
    } catch (const std::bad_alloc&) {
        return fail(DYNKIN_IO, "out of memory");
    } catch (const std::system_error& error) {
        return fail(DYNKIN_IO, error.what());
    } catch (const std::exception& error) {
        return fail(DYNKIN_INTERNAL, error.what());
    } catch (...) {
        return fail(DYNKIN_INTERNAL, "unknown exception");
    }
}

void require_pointers(const char* function, std::initializer_list<const void*> pointers) {
    for (const void* pointer : pointers)
        if (!pointer) throw Error(ErrorKind::usage, std::string(function) + ": a pointer is NULL");
}

Context context_on(Device device, int threads, std::size_t memory = 0) {
    ContextOptions options;
    options.device = device, options.threads = threads, options.device_memory = memory;
    return Context(options);
}

Device device_of(const std::string& name) {
    require(name == "cpu" || name == "cuda" || name == "auto", ErrorKind::usage,
            "dynkin_prior_set_device: expected cpu, cuda or auto");
    return name == "cpu" ? Device::cpu : name == "cuda" ? Device::cuda : Device::automatic;
}

NoiseConvention convention_of(int convention) {
    require(convention == DYNKIN_EDM || convention == DYNKIN_VP, ErrorKind::usage,
            "dynkin_prior_score: the convention is neither DYNKIN_EDM nor DYNKIN_VP");
    return convention == DYNKIN_VP ? NoiseConvention::vp : NoiseConvention::edm;
}

} // namespace

extern "C" {

const char* dynkin_last_error(void) { return last_error; }

dynkin_status dynkin_prior_fit(const char* samples_npy, const char* kind, int degree, double ridge,
                               int threads, dynkin_prior** prior) {
    if (prior) *prior = nullptr;
    return guarded([&] {
        require_pointers("dynkin_prior_fit", {samples_npy, kind, prior});
        PriorOptions options;
        options.kind = prior_kind(kind);
        if (degree != 0) options.degree = degree;
        if (!(ridge < 0)) options.ridge = ridge;
        const Context context = context_on(Device::cpu, threads);
        *prior = new dynkin_prior(context, fit_prior(context, SampleFile(samples_npy), options), threads);
    });
}

dynkin_status dynkin_prior_load(const char* path, int threads, dynkin_prior** prior) {
    if (prior) *prior = nullptr;
    return guarded([&] {
        require_pointers("dynkin_prior_load", {path, prior});
        *prior = new dynkin_prior(context_on(Device::cpu, threads), read_prior(path), threads);
    });
}

dynkin_status dynkin_prior_save(const dynkin_prior* prior, const char* path) {
    return guarded([&] {
        require_pointers("dynkin_prior_save", {prior, path});
        write_prior(path, prior->prior);
    });
}

void dynkin_prior_free(dynkin_prior* prior) { delete prior; }

size_t dynkin_prior_dimension(const dynkin_prior* prior) { return prior ? prior->prior.dimension() : 0; }

double dynkin_prior_largest_noise(const dynkin_prior* prior) {
    return prior ? prior->prior.largest_noise() : 0;
}

dynkin_status dynkin_prior_set_device(dynkin_prior* prior, const char* device, size_t device_memory) {
    return guarded([&] {
        require_pointers("dynkin_prior_set_device", {prior, device});
        const Context context = context_on(device_of(device), prior->threads, device_memory);
        prior->place.reset(new dynkin_prior::Place{context, {}, {}});
    });
}

dynkin_status dynkin_prior_score_f32(const dynkin_prior* prior, size_t rows, const float* x, size_t x_stride,
                                     const double* sigma, size_t sigmas, int convention, float* out,
                                     size_t out_stride) {
    return guarded([&] {
        require_pointers("dynkin_prior_score_f32", {prior, x, sigma, out});
        prior->score(prior->place->single)({rows, x, x_stride, sigma, sigmas, convention_of(convention)}, out,
                                           out_stride);
    });
}

dynkin_status dynkin_prior_score_f64(const dynkin_prior* prior, size_t rows, const double* x, size_t x_stride,
                                     const double* sigma, size_t sigmas, int convention, double* out,
                                     size_t out_stride) {
    return guarded([&] {
        require_pointers("dynkin_prior_score_f64", {prior, x, sigma, out});
        prior->score(prior->place->twice)({rows, x, x_stride, sigma, sigmas, convention_of(convention)}, out,
                                          out_stride);
    });
}

} // extern "C"
