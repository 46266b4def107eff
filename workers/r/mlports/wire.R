# Frames in, frames out, and what a message must look like.

.default_max_frame <- 67108864

# A connection over two files, opened to read and to write bytes.
.wire <- function(input, output) {
  wire <- new.env(parent = emptyenv())
  wire$input <- input
  wire$output <- output
  wire$max_frame <- .default_max_frame
  wire$peer_max_frame <- .default_max_frame
  wire$ndarray <- FALSE
  wire
}

# The next message, waited for; NULL at the end. A violation where it is none.
.receive <- function(wire) {
  head <- .read_exactly(wire, 4)
  if (length(head) == 0) return(NULL)
  if (length(head) < 4) mlports_violation("TruncatedFrame", "the input ends inside a frame")
  size <- sum(as.numeric(as.integer(head)) * 256^(3:0))
  if (size == 0) mlports_violation("EmptyFrame", "a frame of length 0")
  if (size > wire$max_frame) {
    mlports_violation("FrameTooLarge", sprintf("a frame of %.0f bytes; at most %.0f", size, wire$max_frame))
  }
  payload <- .read_exactly(wire, size)
  if (length(payload) < size) mlports_violation("TruncatedFrame", "the input ends inside a frame")
  .check_message(mlports_decode(payload, wire$ndarray))
}

.read_exactly <- function(wire, count) {
  found <- readBin(wire$input, "raw", count)
  while (length(found) > 0 && length(found) < count) {
    more <- readBin(wire$input, "raw", count - length(found))
    if (length(more) == 0) break
    found <- c(found, more)
  }
  found
}

# Writes one message. Stops for a value that cannot be sent, or makes too long a frame.
.tell <- function(wire, ...) {
  payload <- mlports_encode(list(...), wire$ndarray)
  size <- length(payload)
  if (size > wire$peer_max_frame) {
    stop(sprintf("too long: %d bytes, and the orchestrator takes frames of %.0f (max_frame)", size, wire$peer_max_frame))
  }
  tryCatch(
    {
      writeBin(c(.unsigned(size, 4), payload), wire$output)
      flush(wire$output)
    },
    # Nobody reads any more, and there is nobody to tell.
    error = function(problem) quit(status = 1, runLast = FALSE),
    warning = function(problem) quit(status = 1, runLast = FALSE)
  )
  invisible(NULL)
}

.invalid <- function(what) mlports_violation("InvalidMessage", what)

# A string, also one that came as bin (SPEC.md 3.4); NULL for anything else.
.text_of <- function(value) {
  if (is.character(value) && length(value) == 1) return(value)
  if (is.raw(value) && !any(value == as.raw(0))) {
    text <- rawToChar(value)
    if (validUTF8(text)) {
      Encoding(text) <- "UTF-8"
      return(text)
    }
  }
  NULL
}

.is_array <- function(value) is.list(value) && !is.object(value) && is.null(names(value))
.is_map <- function(value) is.list(value) && !is.object(value) && !is.null(names(value))
.is_number <- function(value) .is_integer(value) || is.double(value) && length(value) == 1 && !is.object(value)
.is_count <- function(value, least) .is_integer(value) && value >= least

.message_id <- function(value) {
  if (!.is_count(value, 0) || value >= 2^53) .invalid("an id that is none")
  as.numeric(unclass(value))
}

.meta_of <- function(value) {
  if (is.null(value)) return(list())
  if (!.is_map(value)) .invalid("meta that is no map")
  for (key in attr(value, "keys")) if (is.null(.text_of(key))) .invalid("meta that is no map of strings")
  if (!is.null(value$deadline_ms) && !(.is_number(value$deadline_ms) && value$deadline_ms >= 0)) {
    .invalid("a deadline_ms that is no number")
  }
  value
}

.failure_of <- function(error, result) {
  if (is.null(error)) return(NULL)
  good <- .is_map(error) && !is.null(.text_of(error[["code"]])) && !is.null(.text_of(error[["message"]])) &&
    is.null(result) && (is.null(error[["retryable"]]) || is.logical(error[["retryable"]]))
  if (!good) .invalid("an error without code and message, or with a result")
  attr(error, "keys") <- NULL
  error$code <- .text_of(error[["code"]])
  error$message <- .text_of(error[["message"]])
  error
}

# A message taken apart: kind, and id, method, params, meta or id, error, result. A violation where it is none.
.check_message <- function(message) {
  if (!.is_array(message) || length(message) == 0 || !.is_integer(message[[1]])) .invalid("a message that is none")
  kind <- as.numeric(unclass(message[[1]]))
  if (!kind %in% 0:2) .invalid("a message of an unknown kind")
  if (length(message) < (if (kind == 2) 3 else 4)) .invalid("a message that is too short")
  item <- function(at) if (at <= length(message)) message[[at]] else NULL
  if (kind == 1) {
    .meta_of(item(5))
    return(list(kind = 1, id = .message_id(item(2)), error = .failure_of(item(3), item(4)), result = item(4)))
  }
  id <- if (kind == 0) .message_id(item(2)) else NULL
  first <- if (kind == 0) 3 else 2
  method <- .text_of(item(first))
  if (is.null(method) || method == "") .invalid("a method that is no text")
  if (!.is_array(item(first + 1))) .invalid("params that are no array")
  list(kind = kind, id = id, method = method, params = item(first + 1), meta = .meta_of(item(first + 2)))
}
