// main.cpp - a user's program: it compiles against the installed headers and links all that the library
// needs.
#include <dynkin/context.h>
#include <dynkin/weigh.h>

int main() {
    const dynkin::Context context({.threads = 1});
    const double log_weight[] = {0, 0, 0, 0};
    const dynkin::Weights weights = dynkin::importance_weights(log_weight);
    return context.threads() == 1 && weights.ess_fraction > 0.999 ? 0 : 1;
}
