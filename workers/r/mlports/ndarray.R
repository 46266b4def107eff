# N-dimensional arrays (SPEC.md 12.1): `dtype` such as "<f8" (or the fields of a record), `shape`, and `data`, the
# elements' bytes as a raw vector, row-major and little-endian.

.ndarray <- function(dtype, shape, data) {
  structure(class = "mlports_ndarray", list(dtype = dtype, shape = shape, data = data))
}

.array_kinds <- list(
  "<f4" = list("numeric", 4, TRUE), "<f8" = list("numeric", 8, TRUE), "|i1" = list("integer", 1, TRUE),
  "|u1" = list("integer", 1, FALSE), "|b1" = list("integer", 1, FALSE), "<i2" = list("integer", 2, TRUE),
  "<u2" = list("integer", 2, FALSE), "<i4" = list("integer", 4, TRUE)
)

# R's array (a plain number for shape [], a vector for one dimension) as an ndarray: doubles "<f8", integers "<i4",
# logicals "|b1", unless `dtype` says another.
mlports_ndarray <- function(values, dtype = NULL) {
  if (is.null(dtype)) dtype <- if (is.logical(values)) "|b1" else if (is.integer(values)) "<i4" else "<f8"
  kind <- .array_kinds[[dtype]]
  if (is.null(kind)) stop("this SDK does not put ", dtype, " together")
  shape <- if (is.null(dim(values))) length(values) else dim(values)
  flat <- if (length(shape) > 1) as.vector(aperm(values)) else as.vector(values)
  if (kind[[1]] == "integer") storage.mode(flat) <- "integer" else storage.mode(flat) <- "double"
  .ndarray(dtype, as.list(as.integer(shape)), writeBin(flat, raw(), size = kind[[2]], endian = "little"))
}

# An ndarray as R's own array. Stops for other dtypes than numbers of up to 32 bits, floats and booleans.
as.array.mlports_ndarray <- function(x, ...) {
  kind <- .array_kinds[[if (is.character(x$dtype)) x$dtype else ""]]
  if (is.null(kind)) stop("this SDK does not take this dtype apart: use its data")
  count <- .array_elements(x$shape)
  flat <- readBin(x$data, kind[[1]], n = count, size = kind[[2]], signed = kind[[3]], endian = "little")
  if (identical(x$dtype, "|b1")) flat <- flat != 0L
  shape <- unlist(x$shape)
  if (length(shape) < 2) return(flat)
  aperm(array(flat, dim = rev(shape)))
}

# How many elements an array of this shape has. A violation where it is none.
.array_elements <- function(shape) {
  if (!is.list(shape) || !is.null(names(shape)) || length(shape) > 64) .wrong_array("shape")
  for (size in shape) if (!.is_integer(size) || size < 0) .wrong_array("shape")
  prod(1, vapply(shape, as.numeric, 0))
}

.array_item_sizes <- c(
  "|b1" = 1, "|i1" = 1, "|u1" = 1, "<i2" = 2, "<i4" = 4, "<i8" = 8, "<u2" = 2, "<u4" = 4, "<u8" = 8, "<f2" = 2, "<f4" = 4,
  "<f8" = 8, "<c8" = 8, "<c16" = 16
)

# Bytes of one element. A violation where it is no dtype.
.array_item_size <- function(dtype, depth = 0) {
  if (is.list(dtype)) return(.record_size(dtype, depth))
  if (!is.character(dtype)) .wrong_array("dtype")
  if (dtype %in% names(.array_item_sizes)) return(.array_item_sizes[[dtype]])
  if (grepl("^<[mM]8(\\[[0-9]*(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\\])?$", dtype)) return(8)
  if (!grepl("^(<U|\\|S|\\|V)[1-9][0-9]{0,9}$", dtype)) .wrong_array("dtype")
  as.numeric(substring(dtype, 3)) * (if (startsWith(dtype, "<U")) 4 else 1)
}

.record_size <- function(fields, depth) {
  if (length(fields) == 0 || depth == 8 || !is.null(names(fields))) .wrong_array("dtype")
  seen <- character()
  total <- 0
  for (field in fields) {
    if (!is.list(field) || !length(field) %in% 2:3) .wrong_array("dtype")
    name <- field[[1]]
    if (!is.character(name) || name == "" || name %in% seen) .wrong_array("dtype")
    seen <- c(seen, name)
    total <- total + .array_item_size(field[[2]], depth + 1) * .array_elements(if (length(field) == 3) field[[3]] else list())
  }
  total
}

.wrong_array <- function(what) mlports_violation("InvalidExtension", paste("the", what, "of an ndarray"))
