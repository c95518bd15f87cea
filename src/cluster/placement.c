/* placement.c - the even split, and splits that somebody asked for; see placement.h. */
#include "cluster/placement.h"

#include <string.h>

exo_status exo_place_cuts(const exo_place_candidate *candidates, uint32_t n_candidates,
                          uint32_t n_layers, uint32_t n_stages, const uint32_t *cuts,
                          exo_shard_place *out, exo_error *err) {
    if (n_stages == 0 || n_stages > EXO_MAX_STAGES) {
        return exo_error_set(err, EXO_EINVAL, "min_nodes must be 1 to %d, not %u", EXO_MAX_STAGES,
                             n_stages);
    }
    if (n_candidates < n_stages) {
        return exo_error_set(err, EXO_EINVAL,
                             "%u nodes are asked for, but %u can serve this model (each needs "
                             "the file and a free device)",
                             n_stages, n_candidates);
    }
    uint32_t layer = 0;
    for (uint32_t i = 0; i < n_stages; i++) {
        exo_shard_place *p = &out[i];
        uint32_t end = i + 1 < n_stages ? cuts[i] : n_layers;
        if (end <= layer || end > n_layers) {
            return exo_error_set(err, EXO_EINVAL,
                                 "%u layers cannot be split over %u nodes with stage %u ending "
                                 "before layer %u",
                                 n_layers, n_stages, i, end);
        }
        *p = (exo_shard_place){.start_layer = layer, .end_layer = end, .world_size = 1};
        memcpy(p->node_id, candidates[i].node_id, sizeof p->node_id);
        memcpy(p->device_id, candidates[i].device_id, sizeof p->device_id);
        layer = end;
    }
    return EXO_OK;
}

exo_status exo_place_even(const exo_place_candidate *candidates, uint32_t n_candidates,
                          uint32_t n_layers, uint32_t n_stages, exo_shard_place *out,
                          exo_error *err) {
    uint32_t cuts[EXO_MAX_STAGES] = {0};
    for (uint32_t i = 0; i + 1 < n_stages && i < EXO_MAX_STAGES; i++) {
        uint32_t share = n_layers / n_stages, remainder = n_layers % n_stages;
        cuts[i] = (i + 1) * share + (i + 1 < remainder ? i + 1 : remainder);
    }
    return exo_place_cuts(candidates, n_candidates, n_layers, n_stages, cuts, out, err);
}
