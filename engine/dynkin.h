// dynkin.h - the whole public interface; to a C compiler, the part for C.
#pragma once
#include "dynkin_c.h"
#ifdef __cplusplus
#include "context.h"
#include "energy_fit.h"
#include "error.h"
#include "fit.h"
#include "local_metropolis.h"
#include "mcmc.h"
#include "metrics.h"
#include "model_file.h"
#include "nonlinear_model.h"
#include "npy.h"
#include "observables.h"
#include "prior.h"
#include "process.h"
#include "sampler.h"
#include "score.h"
#include "target.h"
#include "tile_fit.h"
#include "transfer_matrix.h"
#include "weigh.h"
#endif
