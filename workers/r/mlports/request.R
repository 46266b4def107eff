# One request: what its handler knows of it, and what may be wrong with it.

.ahead <- 16 # items of a streamed argument that may be on their way

.now <- function() proc.time()[["elapsed"]]

# What a handler has as its first argument: an environment of what came and functions for what may be said.
.request <- function(worker, message) {
  request <- new.env(parent = emptyenv())
  left <- message$meta$deadline_ms
  request$id <- message$id
  request$method <- message$method
  request$params <- message$params
  request$meta <- message$meta
  request$config <- worker$config
  request$traceparent <- message$meta$traceparent
  request$idempotency_key <- message$meta$idempotency_key
  request$credit <- message$meta$credit
  request$expires <- if (is.null(left)) NULL else .now() + as.numeric(unclass(left)) / 1000
  request$late <- identical(as.numeric(unclass(left)), 0)
  request$items <- list()
  request$granted <- 0
  request$input_ended <- FALSE
  request$collected <- list()

  # Seconds that the caller will still wait; NULL for as long as it takes.
  request$deadline <- function() if (is.null(request$expires)) NULL else request$expires - .now()

  # Tells how far the work has come: numbers, and a text.
  request$progress <- function(done, total = NULL, text = "") {
    if (!is.null(request$id)) .tell(worker$wire, 2L, "$/progress", list(mlports_integer(request$id), done, total, text))
  }

  # One item of the answer of a streaming method; waits until the caller takes it.
  request$emit <- function(item) {
    if (is.null(request$credit)) {
      request$collected <- c(request$collected, list(item))
      return(invisible(NULL))
    }
    while (request$credit <= 0) {
      if (worker$ended) stop(mlports_failure("cancelled", "nobody takes the items any more"))
      worker$hear()
    }
    request$credit <- request$credit - 1
    .tell(worker$wire, 2L, "$/item", list(mlports_integer(request$id), item))
  }

  # The streamed argument: each item is given to the function, which may return FALSE to have no more.
  request$each_input <- function(f) {
    repeat {
      .grant(worker, request)
      if (length(request$items) > 0) {
        item <- request$items[[1]]
        request$items <- request$items[-1]
        if (identical(f(item), FALSE)) return(invisible(NULL))
      } else if (request$input_ended) {
        return(invisible(NULL))
      } else {
        if (worker$ended) stop(mlports_failure("unavailable", "the streamed argument was cut off"))
        worker$hear()
      }
    }
  }
  request
}

.grant <- function(worker, request) {
  waiting <- request$granted + length(request$items)
  if (request$input_ended || waiting > .ahead / 2) return(invisible(NULL))
  request$granted <- request$granted + .ahead - waiting
  .tell(worker$wire, 2L, "$/input_credit", list(mlports_integer(request$id), mlports_integer(.ahead - waiting)))
}

# What is wrong with a request's meta for this handler; NULL where all is well. A violation where meta itself is wrong.
.problem_of <- function(handler, message) {
  credit <- message$meta$credit
  batch <- message$meta$batch
  input <- isTRUE(message$meta$input)
  if (!is.null(credit) && !.is_count(credit, 0)) .invalid("a credit that is none")
  if (handler$input && !input) return("it takes a streamed argument")
  if (input && !handler$input) return("it takes no streamed argument")
  if (is.null(batch)) return(NULL)
  if (!is.null(credit) || input) return("a batch neither streams nor takes a streamed argument")
  good <- .is_count(batch, 1) && batch == length(message$params) && all(vapply(message$params, .is_array, TRUE))
  if (good) NULL else "a batch of n is an array of n lists of arguments"
}

# The fields of $/hello, with their defaults. A violation where one is wrong.
.check_hello <- function(params) {
  hello <- if (length(params) > 0) params[[1]] else NULL
  field <- function(name) if (.is_map(hello)) hello[[name]] else NULL
  versions <- field("protocol")
  longest <- field("max_frame")
  features <- field("features")
  good <- .is_map(versions) && .is_integer(versions[["min"]]) && .is_integer(versions[["max"]]) &&
    (is.null(longest) || .is_count(longest, 1) && longest <= 2147483647) &&
    (is.null(features) || .is_array(features) && all(vapply(features, function(each) !is.null(.text_of(each)), TRUE))) &&
    (is.null(field("service")) || !is.null(.text_of(field("service")))) &&
    (is.null(field("replica")) || .is_count(field("replica"), 0)) &&
    (is.null(field("config")) || .is_map(field("config")))
  if (!good) mlports_violation("InvalidHello", "a field of $/hello is wrong")
  if (versions$min > 1 || versions$max < 1) {
    offered <- paste(versions$min, "to", versions$max)
    mlports_violation("UnsupportedVersion", paste("this SDK speaks version 1, the orchestrator", offered))
  }
  list(
    max_frame = if (is.null(longest)) .default_max_frame else as.numeric(unclass(longest)),
    features = unlist(lapply(features, .text_of)),
    config = if (is.null(field("config"))) mlports_map() else field("config")
  )
}
