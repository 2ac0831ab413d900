/* One sweep of the refinement; see __init__.py for the terms, and portable.py for the same in Python.

   n nodes, k parts; count[v*k + q] = neighbours of v in part q; loads[m*k + p] = load m of part p;
   the last two, numbers `kinds` and `kinds + 1`, are the rows sent and received: they follow from the rest. */
#include <stdint.h>

typedef struct {
    int64_t nodes;
    int32_t parts, kinds;
    const int64_t *indptr;
    const int32_t *indices;
    const float *weights;   /* [kinds][nodes] */
    const double *per_mean; /* [kinds + 2] one over the mean load */
    const double *cap;      /* [kinds + 2] allowed load over mean load */
    const double *strength; /* [kinds + 2] of the penalty above the cap */
    double unit;            /* rows that one mean load is worth */
    double pull;            /* of the quadratic pull to the mean */
    int32_t *part_of;       /* [nodes] */
    int32_t *count;         /* [nodes][parts] */
    double *loads;          /* [kinds + 2][parts] */
    int64_t *size;          /* [parts] nodes */
    uint8_t *dirty;         /* [nodes] to be looked at */
    int32_t *change;        /* [parts] scratch: rows sent after minus before */
    int32_t *base;          /* [parts] scratch */
} State;

/* Its length, the version of the functions below, the size of what they are given; see compiled.py. */
const int64_t native_layout[] = {2, 1, sizeof(State)};

static double cost(const State *s, int kind, double load) {
    double x = load * s->per_mean[kind];
    double over = x - s->cap[kind];
    double off = x - 1.0;
    return (over > 0.0 ? s->strength[kind] * over : 0.0) + s->pull * off * off;
}

static double shift_cost(const State *s, int kind, int part, double by) {
    double load = s->loads[kind * s->parts + part];
    return cost(s, kind, load + by) - cost(s, kind, load);
}

/* Rows saved by leaving part a, whatever the target: into base, by owner; returns their sum. */
static int64_t leave(State *s, int64_t v, int a) {
    int64_t saved = 0;
    for (int p = 0; p < s->parts; p++) s->base[p] = 0;
    for (int64_t e = s->indptr[v]; e < s->indptr[v + 1]; e++) {
        int32_t u = s->indices[e];
        int32_t owner = s->part_of[u];
        if (owner != a && s->count[(int64_t)u * s->parts + a] == 1) {
            s->base[owner]--;
            saved--;
        }
    }
    return saved;
}

/* Change of the objective if v went from a to b; change[] is left as the change of rows sent by each part,
   received[] as that of the rows that a and b receive. */
static double try_move(State *s, int64_t v, int a, int b, int64_t saved, int64_t received[2]) {
    int k = s->parts;
    const int32_t *own = s->count + v * k;
    int64_t fresh = 0;
    for (int p = 0; p < k; p++) s->change[p] = s->base[p];
    for (int64_t e = s->indptr[v]; e < s->indptr[v + 1]; e++) {
        int32_t u = s->indices[e];
        int32_t owner = s->part_of[u];
        if (owner != b && s->count[(int64_t)u * k + b] == 0) {
            s->change[owner]++;
            fresh++;
        }
    }
    int others = 0;
    for (int q = 0; q < k; q++) others += (q != a && q != b && own[q] > 0);
    s->change[a] -= others + (own[b] > 0);
    s->change[b] += others + (own[a] > 0);
    received[0] = saved + (own[a] > 0);
    received[1] = fresh - (own[b] > 0);
    double penalty = 0.0;
    for (int m = 0; m < s->kinds; m++) {
        double w = s->weights[m * s->nodes + v];
        penalty += shift_cost(s, m, a, -w);
        penalty += shift_cost(s, m, b, w);
    }
    for (int p = 0; p < k; p++)
        if (s->change[p] != 0) penalty += shift_cost(s, s->kinds, p, (double)s->change[p]);
    penalty += shift_cost(s, s->kinds + 1, a, (double)received[0]);
    penalty += shift_cost(s, s->kinds + 1, b, (double)received[1]);
    return (double)(received[0] + received[1]) + s->unit * penalty;
}

static void move(State *s, int64_t v, int a, int b, int64_t saved) {
    int k = s->parts;
    int64_t received[2];
    try_move(s, v, a, b, saved, received);
    for (int p = 0; p < k; p++) s->loads[s->kinds * k + p] += s->change[p];
    s->loads[(s->kinds + 1) * k + a] += (double)received[0];
    s->loads[(s->kinds + 1) * k + b] += (double)received[1];
    for (int m = 0; m < s->kinds; m++) {
        double w = s->weights[m * s->nodes + v];
        s->loads[m * k + a] -= w;
        s->loads[m * k + b] += w;
    }
    s->size[a]--;
    s->size[b]++;
    s->part_of[v] = b;
    for (int64_t e = s->indptr[v]; e < s->indptr[v + 1]; e++) {
        int64_t u = s->indices[e];
        s->count[u * k + a]--;
        s->count[u * k + b]++;
        s->dirty[u] = 1;
    }
    s->dirty[v] = 1;
}

/* Look at every dirty node, from `first` on, round the end; make the best move that lowers the objective. */
int64_t sweep(State *s, int64_t first) {
    int k = s->parts;
    int64_t moves = 0;
    for (int64_t i = 0; i < s->nodes; i++) {
        int64_t v = first + i < s->nodes ? first + i : first + i - s->nodes;
        if (!s->dirty[v]) continue;
        s->dirty[v] = 0;
        int a = s->part_of[v];
        if (s->size[a] <= 1) continue;
        const int32_t *own = s->count + v * k;
        int alone = s->indptr[v] == s->indptr[v + 1];
        int64_t saved = 0, received[2];
        int known = 0, best = -1;
        double lowest = -1e-9;
        for (int b = 0; b < k; b++) {
            if (b == a || !(own[b] > 0 || alone)) continue;
            if (!known) {
                saved = leave(s, v, a);
                known = 1;
            }
            double delta = try_move(s, v, a, b, saved, received);
            if (delta < lowest) {
                lowest = delta;
                best = b;
            }
        }
        if (best >= 0) {
            move(s, v, a, best, saved);
            moves++;
        }
    }
    return moves;
}

/* count[], rows sent and rows received of an assignment. */
void tally(State *s) {
    int k = s->parts;
    for (int64_t v = 0; v < s->nodes; v++) {
        int32_t *own = s->count + v * k;
        int a = s->part_of[v];
        for (int64_t e = s->indptr[v]; e < s->indptr[v + 1]; e++) own[s->part_of[s->indices[e]]]++;
        for (int q = 0; q < k; q++) {
            s->loads[s->kinds * k + a] += (q != a && own[q] > 0);
            s->loads[(s->kinds + 1) * k + q] += (q != a && own[q] > 0);
        }
    }
}
