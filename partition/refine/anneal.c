/* Annealing of an assignment; see __init__.py for the terms, and portable.py for the same in Python.

   n nodes, k parts; count[v*k + q] = how many of v and its neighbours part q has; loads[m*k + p] = load m of
   part p; the last two, numbers `kinds` and `kinds + 1`, are the rows sent and received: they follow from the
   rest. */
#include <stdint.h>

typedef struct {
    int64_t nodes;
    int32_t parts, kinds;
    const int64_t *indptr;
    const int32_t *indices;
    const float *weights;    /* [kinds][nodes] */
    const double *per_mean;  /* [kinds + 2] one over the mean load */
    const double *cap;       /* [kinds + 2] allowed load over mean load */
    const double *strength;  /* [kinds + 2] of the penalty above the cap */
    const double *price;     /* [parts][parts] of a row from owner to reader, 0 on the diagonal */
    const double *patience;  /* [1024] quantiles of the exponential distribution */
    double unit;             /* rows that one mean load is worth */
    double pull;             /* of the quadratic pull to the mean */
    int32_t *part_of;        /* [nodes] */
    int32_t *count;          /* [nodes][parts] */
    double *loads;           /* [kinds + 2][parts] */
    int64_t *size;           /* [parts] nodes */
    double *paid;            /* [kinds + 2][parts] scratch: cost of each load as it is */
    int32_t *change;         /* [parts] scratch: rows sent after minus before */
} State;

/* Its length, the version of the functions below, the size of what they are given; see compiled.py. */
const int64_t native_layout[] = {2, 3, sizeof(State)};

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = (*state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static double cost(const State *s, int kind, double load) {
    double x = load * s->per_mean[kind];
    double over = x - s->cap[kind];
    double off = x - 1.0;
    return (over > 0.0 ? s->strength[kind] * over : 0.0) + s->pull * off * off;
}

static double shift_cost(const State *s, int kind, int part, double by) {
    int place = kind * s->parts + part;
    return cost(s, kind, s->loads[place] + by) - s->paid[place];
}

/* Change load `kind` of a part. */
static void shift(State *s, int kind, int part, double by) {
    int place = kind * s->parts + part;
    s->loads[place] += by;
    s->paid[place] = cost(s, kind, s->loads[place]);
}

/* Change of the objective if v went from a to b; change[] is left as the change of rows sent by each part,
   received[] as that of the rows that a and b receive. */
static double try_move(State *s, int64_t v, int a, int b, int64_t received[2]) {
    int k = s->parts;
    const int32_t *own = s->count + v * k;
    const double *before = s->price + (int64_t)a * k, *after = s->price + (int64_t)b * k;
    int64_t saved = 0, fresh = 0;
    int reads = 0;
    double delta = 0.0;
    for (int q = 0; q < k; q++) { /* v's own row: to whom it goes, from b instead of a */
        int read = own[q] > 0, stays = own[q] > (q == a);
        reads += read;
        delta += stays * after[q] - read * before[q];
        s->change[q] = 0;
    }
    for (int64_t e = s->indptr[v]; e < s->indptr[v + 1]; e++) {
        int64_t u = s->indices[e];
        const int32_t *near = s->count + u * k;
        if (near[a] == 1) {
            int owner = s->part_of[u];
            s->change[owner]--;
            delta -= s->price[owner * k + a];
            saved++;
        }
        if (near[b] == 0) {
            int owner = s->part_of[u];
            s->change[owner]++;
            delta += s->price[owner * k + b];
            fresh++;
        }
    }
    int others = reads - (own[a] > 0) - (own[b] > 0);
    s->change[a] -= others + (own[b] > 0);
    s->change[b] += others + (own[a] > 1);
    received[0] = (own[a] > 1) - saved;
    received[1] = fresh - (own[b] > 0);
    double penalty = 0.0;
    for (int m = 0; m < s->kinds; m++) {
        double w = s->weights[m * s->nodes + v];
        if (w == 0.0) continue;
        penalty += shift_cost(s, m, a, -w);
        penalty += shift_cost(s, m, b, w);
    }
    for (int p = 0; p < k; p++)
        if (s->change[p] != 0) penalty += shift_cost(s, s->kinds, p, (double)s->change[p]);
    penalty += shift_cost(s, s->kinds + 1, a, (double)received[0]);
    penalty += shift_cost(s, s->kinds + 1, b, (double)received[1]);
    return delta + s->unit * penalty;
}

/* Do what try_move looked at last. */
static void move(State *s, int64_t v, int a, int b, const int64_t received[2]) {
    int k = s->parts;
    for (int p = 0; p < k; p++)
        if (s->change[p] != 0) shift(s, s->kinds, p, (double)s->change[p]);
    shift(s, s->kinds + 1, a, (double)received[0]);
    shift(s, s->kinds + 1, b, (double)received[1]);
    for (int m = 0; m < s->kinds; m++) {
        double w = s->weights[m * s->nodes + v];
        shift(s, m, a, -w);
        shift(s, m, b, w);
    }
    s->size[a]--;
    s->size[b]++;
    s->part_of[v] = b;
    s->count[v * k + a]--;
    s->count[v * k + b]++;
    for (int64_t e = s->indptr[v]; e < s->indptr[v + 1]; e++) {
        int64_t u = s->indices[e];
        s->count[u * k + a]--;
        s->count[u * k + b]++;
    }
}

/* A part that v may go to: that of a random neighbour, or any where it has none; its own where it may not. */
static int proposed(const State *s, int64_t v, uint64_t draw) {
    int64_t first = s->indptr[v], degree = s->indptr[v + 1] - first;
    int a = s->part_of[v];
    if (s->size[a] <= 1 || s->count[v * s->parts + a] > degree) {
        if (degree > 0 || s->size[a] <= 1) return a;
        return (int)(draw * (uint64_t)s->parts >> 32);
    }
    return s->part_of[s->indices[first + (int64_t)(draw * (uint64_t)degree >> 32)]];
}

/* Look at `proposals` random moves, and make those that lower the objective, or that raise it by less than a
   random multiple of the temperature, which falls evenly from `hot` to `cold`; the number of moves. */
int64_t anneal(State *s, int64_t proposals, double hot, double cold, uint64_t seed) {
    int64_t moves = 0, received[2];
    for (int m = 0; m < s->kinds + 2; m++)
        for (int p = 0; p < s->parts; p++)
            s->paid[m * s->parts + p] = cost(s, m, s->loads[m * s->parts + p]);
    double step = (cold - hot) / (double)(proposals > 1 ? proposals : 1);
    for (int64_t i = 0; i < proposals; i++) {
        uint64_t r = next_random(&seed);
        int64_t v = (int64_t)((r >> 32) * (uint64_t)s->nodes >> 32);
        int a = s->part_of[v], b = proposed(s, v, r & 0xFFFFFFFFull);
        if (b == a) continue;
        double delta = try_move(s, v, a, b, received);
        if (delta > 0.0) {
            double heat = hot + step * (double)i;
            if (delta >= heat * s->patience[next_random(&seed) >> 54]) continue;
        }
        move(s, v, a, b, received);
        moves++;
    }
    return moves;
}

/* count[], rows sent and rows received of an assignment. */
void tally(State *s) {
    int k = s->parts;
    for (int64_t v = 0; v < s->nodes; v++) {
        int32_t *own = s->count + v * k;
        int a = s->part_of[v];
        own[a]++;
        for (int64_t e = s->indptr[v]; e < s->indptr[v + 1]; e++) own[s->part_of[s->indices[e]]]++;
        for (int q = 0; q < k; q++) {
            s->loads[s->kinds * k + a] += (q != a && own[q] > 0);
            s->loads[(s->kinds + 1) * k + q] += (q != a && own[q] > 0);
        }
    }
}
