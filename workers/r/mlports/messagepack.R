# MessagePack as SPEC.md 3 has it.
#
#     nil        NULL, and NA                  str      a string; one with a NUL in it, which R has not, mlports_text
#     booleans   TRUE, FALSE                   bin      a raw vector
#     integers   within 32 bits R's own, else doubles of the class mlports_integer; past 2^53 mlports_int64, 8 bytes
#     floats     doubles                       array    a list; a vector of another length than 1; I(x) for any vector
#     ext        mlports_ndarray, mlports_timestamp, mlports_extension       map      a named list

.deepest <- 128 # levels of nesting, the message's own array counted

# A map without anything in it; an empty list is an array.
mlports_map <- function(...) {
  items <- list(...)
  if (length(items) == 0) names(items) <- character()
  items
}

# A whole number of up to 53 bits, which is sent as an integer.
mlports_integer <- function(number) structure(as.numeric(number), class = "mlports_integer")

.is_integer <- function(value) length(value) == 1 && (is.integer(value) || inherits(value, "mlports_integer"))

# -- writing

# Big-endian bytes of an unsigned number.
.unsigned <- function(number, size) {
  if (size == 8) return(c(.unsigned(number %/% 4294967296, 4), .unsigned(number %% 4294967296, 4)))
  if (size == 4) return(c(.unsigned(number %/% 65536, 2), .unsigned(number %% 65536, 2)))
  if (size == 2) return(as.raw(c(number %/% 256, number %% 256)))
  as.raw(number)
}

.head <- function(count, short, most, codes) {
  if (count <= most) return(as.raw(short + count))
  if (codes[[1]] > 0 && count < 256) return(c(as.raw(codes[[1]]), .unsigned(count, 1)))
  if (count < 65536) return(c(as.raw(codes[[2]]), .unsigned(count, 2)))
  c(as.raw(codes[[3]]), .unsigned(count, 4))
}

.write_integer <- function(number) {
  if (number >= 0) {
    if (number < 128) return(as.raw(number))
    if (number < 256) return(c(as.raw(0xcc), .unsigned(number, 1)))
    if (number < 65536) return(c(as.raw(0xcd), .unsigned(number, 2)))
    if (number < 4294967296) return(c(as.raw(0xce), .unsigned(number, 4)))
    return(c(as.raw(0xcf), .unsigned(number, 8)))
  }
  if (number >= -32) return(as.raw(256 + number))
  if (number >= -128) return(c(as.raw(0xd0), .unsigned(256 + number, 1)))
  if (number >= -32768) return(c(as.raw(0xd1), .unsigned(65536 + number, 2)))
  if (number >= -2147483648) return(c(as.raw(0xd2), .unsigned(4294967296 + number, 4)))
  c(as.raw(0xd3), .unsigned(number %/% 4294967296 + 4294967296, 4), .unsigned(number %% 4294967296, 4))
}

.write_text <- function(bytes) c(.head(length(bytes), 0xa0, 31, c(0xd9, 0xda, 0xdb)), bytes)

.write_bytes <- function(bytes) c(.head(length(bytes), 0, -1, c(0xc4, 0xc5, 0xc6)), bytes)

.write_extension <- function(code, data) {
  fixed <- match(length(data), c(1, 2, 4, 8, 16))
  first <- if (is.na(fixed)) .head(length(data), 0, -1, c(0xc7, 0xc8, 0xc9)) else as.raw(0xd3 + fixed)
  c(first, as.raw(code %% 256), data)
}

.write_timestamp <- function(seconds, nanoseconds) {
  if (seconds < 0) return(.write_extension(-1, c(.unsigned(nanoseconds, 4), .unsigned(seconds %/% 4294967296 + 4294967296, 4), .unsigned(seconds %% 4294967296, 4))))
  if (seconds >= 2^34) return(.write_extension(-1, c(.unsigned(nanoseconds, 4), .unsigned(seconds, 8))))
  if (nanoseconds > 0 || seconds >= 2^32) {
    high <- nanoseconds * 4 + seconds %/% 4294967296
    return(.write_extension(-1, c(.unsigned(high, 4), .unsigned(seconds %% 4294967296, 4))))
  }
  .write_extension(-1, .unsigned(seconds, 4))
}

.write_scalar <- function(value) {
  if (is.na(value) && !is.nan(value)) return(as.raw(0xc0))
  if (is.logical(value)) return(as.raw(if (value) 0xc3 else 0xc2))
  if (is.integer(value)) return(.write_integer(value))
  if (is.double(value)) {
    if (is.nan(value)) return(as.raw(c(0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0)))
    return(c(as.raw(0xcb), writeBin(value, raw(), endian = "big")))
  }
  if (is.character(value)) return(.write_text(charToRaw(enc2utf8(value))))
  stop("a value of type ", typeof(value), " cannot be sent")
}

.write_special <- function(value, ndarray) {
  switch(class(value)[[1]],
    mlports_integer = .write_integer(unclass(value)),
    mlports_int64 = c(as.raw(if (value$negative) 0xd3 else 0xcf), value$bytes),
    mlports_text = .write_text(value$bytes),
    mlports_timestamp = .write_timestamp(value$seconds, value$nanoseconds),
    POSIXct = .write_timestamp(floor(as.numeric(value)), round((as.numeric(value) %% 1) * 1e9)),
    mlports_extension = .write_extension(value$code, value$data),
    mlports_ndarray = {
      if (!ndarray) stop("an ndarray cannot be sent: the orchestrator takes none")
      .write_extension(1, c(mlports_encode(list(value$dtype, value$shape)), value$data))
    },
    NULL
  )
}

.write <- function(value, ndarray, depth) {
  if (is.null(value)) return(as.raw(0xc0))
  # What there is most of comes first.
  if (is.integer(value) && length(value) == 1 && !is.object(value) && !is.na(value)) return(.write_integer(value))
  if (is.object(value)) {
    special <- .write_special(value, ndarray)
    if (!is.null(special)) return(special)
    if (is.factor(value)) value <- as.character(value)
    if (is.data.frame(value)) value <- as.list(value)
  }
  if (is.raw(value)) return(.write_bytes(as.vector(value)))
  if (is.list(value) || length(value) != 1 || inherits(value, "AsIs")) return(.write_several(value, ndarray, depth))
  if (is.function(value) || is.environment(value) || is.symbol(value)) stop("a value of type ", typeof(value), " cannot be sent")
  .write_scalar(unname(value))
}

.write_several <- function(value, ndarray, depth) {
  if (depth >= .deepest) stop("nested deeper than ", .deepest)
  keys <- names(value)
  first <- .head(length(value), if (is.null(keys)) 0x90 else 0x80, 15, if (is.null(keys)) c(0, 0xdc, 0xdd) else c(0, 0xde, 0xdf))
  if (is.null(keys) && length(value) >= 16) return(c(first, .write_items(value, ndarray, depth)))
  if (is.null(keys)) {
    # Without lapply, which would use up the stack before the deepest nesting is reached.
    for (at in seq_along(value)) first <- c(first, .write(value[[at]], ndarray, depth + 1))
    return(first)
  }
  items <- lapply(value, .write, ndarray, depth + 1)
  original <- attr(value, "keys")
  written <- lapply(seq_along(keys), function(at) {
    if (is.null(original)) .write_text(charToRaw(enc2utf8(keys[[at]]))) else .write(original[[at]], FALSE, depth + 1)
  })
  c(first, unlist(c(rbind(written, items))))
}

# The items of an array. Many numbers at once: R takes long for each of its functions, and not for each number.
.write_items <- function(value, ndarray, depth) {
  if (is.object(value)) value <- unclass(value)
  runs <- rle(if (is.list(value)) vapply(value, .number_kind, "") else rep(typeof(value), length(value)))
  ends <- cumsum(runs$lengths)
  written <- lapply(seq_along(ends), function(run) {
    items <- value[(ends[[run]] - runs$lengths[[run]] + 1):ends[[run]]]
    numbers <- if (runs$values[[run]] %in% c("integer", "double")) unlist(items)
    if (is.null(numbers) || anyNA(numbers)) return(unlist(lapply(items, .write, ndarray, depth + 1), use.names = FALSE))
    if (is.integer(numbers)) .write_integers(numbers) else .write_doubles(numbers)
  })
  unlist(written, use.names = FALSE)
}

# "integer" or "double" for a plain number.
.number_kind <- function(item) {
  if (is.numeric(item) && length(item) == 1 && is.null(attributes(item))) typeof(item) else ""
}

# The shortest form of each, as .write_integer has it.
.write_integers <- function(numbers) {
  codes <- rep(0xce, length(numbers))
  sizes <- rep(4, length(numbers))
  form <- function(which, code, size) {
    codes[which] <<- code
    sizes[which] <<- size
  }
  form(numbers < 65536L, 0xcd, 2)
  form(numbers < 256L, 0xcc, 1)
  form(numbers < 128L, 0, 0)
  form(numbers < -32L, 0xd0, 1)
  form(numbers < -128L, 0xd1, 2)
  form(numbers < -32768L, 0xd2, 4)
  codes[sizes == 0] <- numbers[sizes == 0] %% 256L
  starts <- cumsum(c(1, sizes + 1))
  out <- raw(sum(sizes + 1))
  out[starts[seq_along(numbers)]] <- as.raw(codes)
  unsigned <- ifelse(numbers < 0, numbers + 256^sizes, numbers)
  for (place in 1:4) {
    which <- sizes >= place
    out[starts[seq_along(numbers)][which] + place] <- as.raw(unsigned[which] %/% 256^(sizes[which] - place) %% 256)
  }
  out
}

.write_doubles <- function(numbers) {
  bytes <- matrix(writeBin(as.vector(numbers), raw(), endian = "big"), nrow = 8)
  as.vector(rbind(as.raw(0xcb), bytes))
}

# The text without the NULs that keep it from being one of R's.
as.character.mlports_text <- function(x, ...) rawToChar(x$bytes[x$bytes != as.raw(0)])

# Bytes. Stops for a value that cannot be sent. `ndarray`: whether the other side takes them.
mlports_encode <- function(value, ndarray = FALSE) .write(value, ndarray, 0)

# -- reading

.malformed <- function(reason) mlports_violation("MalformedValue", reason)

# The one value in a frame's payload, a raw vector. A violation where it is none. `ndarray`: whether arrays were agreed.
mlports_decode <- function(payload, ndarray = FALSE) {
  reader <- new.env(parent = emptyenv())
  reader$bytes <- payload
  reader$at <- 1
  reader$size <- length(payload)
  value <- .read(reader, ndarray, 0)
  if (reader$at <= reader$size) mlports_violation("TrailingBytes", "bytes behind the value in a frame")
  value
}

.take <- function(reader, count) {
  force(count) # arguments are evaluated when they are used, and to read this one moves on
  after <- reader$at + count
  if (after - 1 > reader$size) .malformed("a value that says to be longer than its frame")
  if (count == 0) return(raw())
  bytes <- reader$bytes[reader$at:(after - 1)]
  reader$at <- after
  bytes
}

.places <- list(1, c(256, 1), NULL, c(16777216, 65536, 256, 1)) # what the bytes of a number are worth

.take_unsigned <- function(reader, size) {
  sum(as.integer(.take(reader, size)) * .places[[size]])
}

.take_signed <- function(reader, size) {
  number <- .take_unsigned(reader, size)
  if (number >= 2^(8 * size - 1)) number - 2^(8 * size) else number
}

.as_integer <- function(number) {
  if (abs(number) <= 2147483647) as.integer(number) else mlports_integer(number)
}

.take_64_bits <- function(reader, signed) {
  bytes <- .take(reader, 8)
  parts <- as.numeric(as.integer(bytes))
  high <- sum(parts[1:4] * 256^(3:0))
  low <- sum(parts[5:8] * 256^(3:0))
  negative <- signed && high >= 2147483648
  if (negative) high <- high - 4294967296
  if (high < 2097152 && high >= -2097152) return(.as_integer(high * 4294967296 + low))
  structure(class = "mlports_int64", list(bytes = bytes, negative = negative))
}

.take_text <- function(reader, count) {
  bytes <- .take(reader, count)
  if (count > 0 && any(bytes == as.raw(0))) {
    if (!validUTF8(rawToChar(bytes[bytes != as.raw(0)]))) .malformed("a str that is not UTF-8")
    return(structure(class = "mlports_text", list(bytes = bytes)))
  }
  text <- rawToChar(bytes)
  if (!validUTF8(text)) .malformed("a str that is not UTF-8")
  Encoding(text) <- "UTF-8"
  text
}

.room <- function(reader, count, depth) {
  force(count)
  if (depth >= .deepest) .malformed(paste("nested deeper than", .deepest))
  if (reader$at + count - 1 > reader$size) .malformed("a value that says to be longer than its frame")
}

.take_array <- function(reader, count, ndarray, depth) {
  .room(reader, count, depth)
  items <- vector("list", count)
  at <- 1
  while (at <= count) {
    doubles <- .take_doubles(reader, count - at + 1)
    if (length(doubles) > 0) {
      items[at:(at + length(doubles) - 1)] <- doubles
      at <- at + length(doubles)
    } else {
      item <- .read(reader, ndarray, depth + 1)
      if (!is.null(item)) items[[at]] <- item
      at <- at + 1
    }
  }
  items
}

# As many doubles as follow each other, up to `most` and a thousand: many at once, as they are written.
.take_doubles <- function(reader, most) {
  many <- min(most, 1000, (reader$size - reader$at + 1) %/% 9)
  if (many < 8 || reader$bytes[[reader$at]] != as.raw(0xcb)) return(NULL)
  bytes <- matrix(reader$bytes[reader$at:(reader$at + 9 * many - 1)], nrow = 9)
  other <- match(FALSE, bytes[1, ] == as.raw(0xcb))
  if (!is.na(other)) many <- other - 1
  reader$at <- reader$at + 9 * many
  readBin(as.vector(bytes[-1, seq_len(many)]), "numeric", n = many, endian = "big")
}

.take_map <- function(reader, count, ndarray, depth) {
  .room(reader, 2 * count, depth)
  keys <- vector("list", count)
  items <- vector("list", count)
  for (at in seq_len(count)) {
    key <- .read(reader, FALSE, depth + 1)
    if (is.list(key) && !is.object(key)) .malformed("an array or a map as a key")
    keys[at] <- list(key)
    items[at] <- list(.read(reader, ndarray, depth + 1))
  }
  names(items) <- vapply(keys, .key_name, "")
  # What other keys than texts were, so that they can be sent back as they came.
  if (!all(vapply(keys, function(key) is.character(key), TRUE))) attr(items, "keys") <- keys
  items
}

.key_name <- function(key) {
  if (is.null(key)) return("")
  if (is.raw(key)) return(if (any(key == as.raw(0))) paste(key, collapse = "") else .known_text(key))
  if (is.object(key) && is.list(key)) return(paste(key$bytes, collapse = ""))
  as.character(unclass(key))
}

.known_text <- function(bytes) {
  text <- rawToChar(bytes)
  if (validUTF8(text)) Encoding(text) <- "UTF-8" else text <- paste(bytes, collapse = "")
  text
}

.take_extension <- function(reader, count, ndarray) {
  force(count)
  code <- .take_signed(reader, 1)
  data <- .take(reader, count)
  if (code == -1) return(.timestamp_of(data))
  if (code == 1 && ndarray) return(.ndarray_of(data))
  if (code >= 1 && code <= 3) mlports_violation("InvalidExtension", paste0("extension ", code, ", which was not agreed"))
  structure(class = "mlports_extension", list(code = as.integer(code), data = data))
}

.timestamp_of <- function(data) {
  number <- function(places) sum(as.numeric(as.integer(data[places])) * 256^((length(places) - 1):0))
  size <- as.character(length(data))
  if (!size %in% c("4", "8", "12")) .malformed(paste("a timestamp of", size, "bytes"))
  found <- switch(size,
    "4" = c(number(1:4), 0),
    "8" = c((number(1:4) %% 4) * 4294967296 + number(5:8), number(1:4) %/% 4),
    "12" = c((if (number(5:8) >= 2147483648) number(5:8) - 4294967296 else number(5:8)) * 4294967296 + number(9:12), number(1:4))
  )
  if (found[[2]] > 999999999) .malformed(paste("a timestamp with", found[[2]], "nanoseconds"))
  structure(class = "mlports_timestamp", list(seconds = found[[1]], nanoseconds = found[[2]]))
}

# A timestamp as R's own instant, which is exact to a microsecond or so.
as.POSIXct.mlports_timestamp <- function(x, ...) {
  structure(x$seconds + x$nanoseconds / 1e9, class = c("POSIXct", "POSIXt"), tzone = "UTC")
}

.ndarray_of <- function(data) {
  reader <- new.env(parent = emptyenv())
  reader$bytes <- data
  reader$at <- 1
  reader$size <- length(data)
  head <- tryCatch(.read(reader, FALSE, 0), mlports_violation = function(problem) NULL)
  if (!is.list(head) || length(head) != 2 || !is.null(names(head))) {
    mlports_violation("InvalidExtension", "an ndarray without dtype and shape")
  }
  size <- .array_elements(head[[2]]) * .array_item_size(head[[1]])
  left <- reader$size - reader$at + 1
  if (size != left) mlports_violation("InvalidExtension", paste(left, "bytes for an ndarray of", size))
  .ndarray(head[[1]], head[[2]], .take(reader, left))
}

.read <- function(reader, ndarray, depth) {
  at <- reader$at
  if (at > reader$size) .malformed("a value that says to be longer than its frame")
  byte <- as.integer(reader$bytes[[at]])
  reader$at <- at + 1
  if (byte < 0x80) return(byte)
  if (byte >= 0xe0) return(byte - 256L)
  if (byte < 0x90) return(.take_map(reader, bitwAnd(byte, 15L), ndarray, depth))
  if (byte < 0xa0) return(.take_array(reader, bitwAnd(byte, 15L), ndarray, depth))
  if (byte < 0xc0) return(.take_text(reader, bitwAnd(byte, 31L)))
  .readers[[byte - 0xbf]](reader, ndarray, depth)
}

# Readers of what begins with a byte from c0 to df, in this order.
.readers <- local({
  counted <- function(take, size) function(reader, ndarray, depth) take(reader, .take_unsigned(reader, size), ndarray, depth)
  bytes <- function(reader, count, ...) .take(reader, count)
  text <- function(reader, count, ...) .take_text(reader, count)
  extension <- function(reader, count, ndarray, ...) .take_extension(reader, count, ndarray)
  fixed <- function(size) function(reader, ndarray, depth) .take_extension(reader, size, ndarray)
  number <- function(take, size) function(reader, ...) .as_integer(take(reader, size))
  list(
    function(...) NULL, function(...) .malformed("the byte c1"), function(...) FALSE, function(...) TRUE,
    counted(bytes, 1), counted(bytes, 2), counted(bytes, 4), counted(extension, 1), counted(extension, 2), counted(extension, 4),
    function(reader, ...) readBin(.take(reader, 4), "numeric", size = 4, endian = "big"),
    function(reader, ...) readBin(.take(reader, 8), "numeric", endian = "big"),
    number(.take_unsigned, 1), number(.take_unsigned, 2), number(.take_unsigned, 4),
    function(reader, ...) .take_64_bits(reader, FALSE),
    number(.take_signed, 1), number(.take_signed, 2), number(.take_signed, 4),
    function(reader, ...) .take_64_bits(reader, TRUE),
    fixed(1), fixed(2), fixed(4), fixed(8), fixed(16),
    counted(text, 1), counted(text, 2), counted(text, 4),
    counted(.take_array, 2), counted(.take_array, 4), counted(.take_map, 2), counted(.take_map, 4)
  )
})
