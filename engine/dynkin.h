// dynkin.h - the whole public interface.
#pragma once
#include "context.h"
#include "error.h"
#include "fit.h"
#include "mcmc.h"
#include "metrics.h"
#include "model_file.h"
#include "npy.h"
#include "sampler.h"
#include "score.h"
#include "target.h"
#include "transfer_matrix.h"
#include "weigh.h"
