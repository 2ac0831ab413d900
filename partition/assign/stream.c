/* Passes over a graph that may be on disk: one row at a time, in order. passes.py has the same in Python. */
#include <math.h>
#include <stdint.h>

/* Its length, the version of the functions below; see passes.py. */
const int64_t native_layout[] = {1, 1};

/* Give every node the part with the best score; a node that has a part leaves it first.
   load[p] work of the part over the mean part, work of v = (degree + extra) * share.
   fennel: neighbours there - alpha * sqrt(load); ldg: neighbours there * (1 - load / cap).
   A part beyond cap is taken only when all are; near[parts] is scratch. Returns the nodes that changed part. */
int64_t stream_pass(int64_t nodes, int32_t parts, const int64_t *indptr, const int32_t *indices, int32_t ldg,
                    double extra, double share, double alpha, double cap, int32_t *part_of, double *load,
                    int64_t *size, int32_t *near) {
    int64_t moved = 0;
    for (int64_t v = 0; v < nodes; v++) {
        int64_t first = indptr[v], last = indptr[v + 1];
        double work = ((double)(last - first) + extra) * share;
        int old = part_of[v];
        if (old >= 0) {
            if (size[old] == 1) continue;
            load[old] -= work;
            size[old]--;
        }
        for (int p = 0; p < parts; p++) near[p] = 0;
        for (int64_t e = first; e < last; e++) {
            int p = part_of[indices[e]];
            if (p >= 0) near[p]++;
        }
        int best = -1;
        double highest = 0.0;
        for (int p = 0; p < parts; p++) {
            if (load[p] + work > cap) continue;
            double score = ldg ? near[p] * (1.0 - load[p] / cap) : near[p] - alpha * sqrt(load[p] > 0 ? load[p] : 0.0);
            if (best < 0 || score > highest || (score == highest && load[p] < load[best])) {
                best = p;
                highest = score;
            }
        }
        if (best < 0) {
            best = 0;
            for (int p = 1; p < parts; p++)
                if (load[p] < load[best]) best = p;
        }
        part_of[v] = best;
        load[best] += work;
        size[best]++;
        moved += best != old;
    }
    return moved;
}

/* Give every node the cluster that most of its neighbours are in, where there is room: weight[c] <= cap.
   label[v] is a node id, seen[nodes] zeroes and touched[nodes] are scratch. Returns the nodes that moved. */
int64_t cluster_pass(int64_t nodes, const int64_t *indptr, const int32_t *indices, double extra, double cap,
                     int32_t *label, double *weight, int32_t *seen, int32_t *touched) {
    int64_t moved = 0;
    for (int64_t v = 0; v < nodes; v++) {
        int64_t first = indptr[v], last = indptr[v + 1];
        double work = (double)(last - first) + extra;
        int32_t old = label[v], best = old;
        int64_t reached = 0;
        for (int64_t e = first; e < last; e++) {
            int32_t c = label[indices[e]];
            if (seen[c]++ == 0) touched[reached++] = c;
        }
        int32_t most = seen[old];
        for (int64_t i = 0; i < reached; i++) {
            int32_t c = touched[i];
            if (c != old && weight[c] + work <= cap && (seen[c] > most || (seen[c] == most && c < best && best != old))) {
                best = c;
                most = seen[c];
            }
        }
        for (int64_t i = 0; i < reached; i++) seen[touched[i]] = 0;
        if (best != old) {
            weight[old] -= work;
            weight[best] += work;
            label[v] = best;
            moved++;
        }
    }
    return moved;
}
