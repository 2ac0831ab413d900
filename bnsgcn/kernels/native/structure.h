/* Blocks made from blocks: counting passes, no sorting. A template over ID and NAME. The weights of the arcs go
 * with them; both pointers to weights are null in an unweighted block. */

/* indptr_t must hold num_cols + 1 zeros. */
int64_t NAME(transpose)(const ID *indptr, const ID *indices, int64_t num_rows, int64_t num_cols, ID *indptr_t,
                     ID *indices_t, const float *weights, float *weights_t) {
    const int64_t arcs = indptr[num_rows];
    for (int64_t e = 0; e < arcs; e++) indptr_t[indices[e] + 1]++;
    for (int64_t c = 0; c < num_cols; c++) indptr_t[c + 1] += indptr_t[c];
    for (int64_t r = 0; r < num_rows; r++)
        for (int64_t e = indptr[r]; e < indptr[r + 1]; e++) {
            const int64_t place = indptr_t[indices[e]]++;
            indices_t[place] = (ID)r;
            if (weights) weights_t[place] = weights[e];
        }
    for (int64_t c = num_cols; c > 0; c--) indptr_t[c] = indptr_t[c - 1];
    indptr_t[0] = 0;
    return DONE;
}

/* Writes the arcs of the listed rows one after another; indptr_s is given. */
int64_t NAME(select_rows)(const ID *indptr, const ID *indices, const int64_t *rows, int64_t count, const ID *indptr_s,
                       ID *indices_s, const float *weights, float *weights_s) {
    for (int64_t k = 0; k < count; k++) {
        const int64_t first = indptr[rows[k]], arcs = indptr[rows[k] + 1] - first;
        if (arcs) memcpy(indices_s + indptr_s[k], indices + first, (size_t)arcs * sizeof(ID));
        if (arcs && weights) memcpy(weights_s + indptr_s[k], weights + first, (size_t)arcs * sizeof(float));
    }
    return DONE;
}

INLINE int64_t NAME(keep_columns)(const ID *indptr, const ID *indices, int64_t num_rows, const int32_t *column_map,
                                  ID *indptr_k, ID *indices_k, const float *weights, float *weights_k,
                                  const int weighted) {
    int64_t kept = 0;
    indptr_k[0] = 0;
    for (int64_t r = 0; r < num_rows; r++) {
        for (int64_t e = indptr[r]; e < indptr[r + 1]; e++) {
            const int32_t column = column_map[indices[e]];
            indices_k[kept] = (ID)column;
            if (weighted) weights_k[kept] = weights[e];
            kept += column >= 0;
        }
        indptr_k[r + 1] = (ID)kept;
    }
    return kept;
}

/* Renames columns and drops arcs whose new column is negative; returns how many stay. There is room for one more
 * than there are arcs. */
int64_t NAME(compact)(const ID *indptr, const ID *indices, int64_t num_rows, const int32_t *column_map, ID *indptr_k,
                      ID *indices_k, const float *weights, float *weights_k) {
    return weights ? NAME(keep_columns)(indptr, indices, num_rows, column_map, indptr_k, indices_k, weights, weights_k, 1)
                   : NAME(keep_columns)(indptr, indices, num_rows, column_map, indptr_k, indices_k, NULL, NULL, 0);
}
