/* Blocks made from blocks: counting passes, no sorting. A template over ID and NAME. */

/* indptr_t must hold num_cols + 1 zeros. */
int64_t NAME(transpose)(const ID *indptr, const ID *indices, int64_t num_rows, int64_t num_cols, ID *indptr_t,
                     ID *indices_t) {
    const int64_t arcs = indptr[num_rows];
    for (int64_t e = 0; e < arcs; e++) indptr_t[indices[e] + 1]++;
    for (int64_t c = 0; c < num_cols; c++) indptr_t[c + 1] += indptr_t[c];
    for (int64_t r = 0; r < num_rows; r++)
        for (int64_t e = indptr[r]; e < indptr[r + 1]; e++) indices_t[indptr_t[indices[e]]++] = (ID)r;
    for (int64_t c = num_cols; c > 0; c--) indptr_t[c] = indptr_t[c - 1];
    indptr_t[0] = 0;
    return DONE;
}

/* Writes the arcs of the listed rows one after another; indptr_s is given. */
int64_t NAME(select_rows)(const ID *indptr, const ID *indices, const int64_t *rows, int64_t count, const ID *indptr_s,
                       ID *indices_s) {
    for (int64_t k = 0; k < count; k++) {
        const int64_t first = indptr[rows[k]], arcs = indptr[rows[k] + 1] - first;
        if (arcs) memcpy(indices_s + indptr_s[k], indices + first, (size_t)arcs * sizeof(ID));
    }
    return DONE;
}

/* Renames columns and drops arcs whose new column is negative; returns how many stay. */
int64_t NAME(compact)(const ID *indptr, const ID *indices, int64_t num_rows, const int32_t *column_map, ID *indptr_k,
                      ID *indices_k) {
    int64_t kept = 0;
    indptr_k[0] = 0;
    for (int64_t r = 0; r < num_rows; r++) {
        for (int64_t e = indptr[r]; e < indptr[r + 1]; e++) {
            const int32_t column = column_map[indices[e]];
            indices_k[kept] = (ID)column;
            kept += column >= 0;
        }
        indptr_k[r + 1] = (ID)kept;
    }
    return kept;
}
