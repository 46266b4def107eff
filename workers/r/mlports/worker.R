# A worker program: its methods, and the loop that answers for them, one request after the other.

.version <- "0.1.0"
.features <- list("batch", "input", "ndarray", "stream")

# A worker program called `name`. It hears what the orchestrator says between two requests, and while a handler waits
# (request$emit, request$each_input, worker$call): so it claims neither `ping` nor `cancel`.
#
#   $setup(f)                f(config), once, before the first call: the place to load a model
#   $method(name, f, …)      f(request, …) gives a value. idempotent: twice does the same as once, so that a call may be
#                            repeated after a crash. input: there is a streamed argument, request$each_input(g)
#   $batch(name, f, …)       f(request, list) gives a list of as many results; a failure in a place is that item's error
#   $stream(name, f, …)      f(request, …) gives its items by request$emit(item)
#   $call(request, target, …)    the result of "service.method" of another service; stops with a failure
#   $cast(target, …)         the same without an answer
#   $log(level, text, …)     a line for the orchestrator's log: level is debug, info, warning or error
#   $run()                   answers until the orchestrator says stop or closes the stream, then ends the program
mlports_worker <- function(name) {
  worker <- new.env(parent = emptyenv())
  worker$name <- name
  worker$handlers <- list()
  worker$on_setup <- function(config) NULL
  worker$phase <- "new"
  worker$config <- mlports_map()
  worker$queue <- list()
  worker$open <- new.env(parent = emptyenv())
  worker$calls <- new.env(parent = emptyenv())
  worker$next_id <- 0
  worker$stopping <- FALSE
  worker$ended <- FALSE

  worker$setup <- function(f) worker$on_setup <- f
  worker$method <- function(name, f, idempotent = FALSE, input = FALSE) .add(worker, "plain", name, f, idempotent, input)
  worker$batch <- function(name, f, idempotent = FALSE) .add(worker, "batch", name, f, idempotent, FALSE)
  worker$stream <- function(name, f, idempotent = FALSE) .add(worker, "stream", name, f, idempotent, FALSE)
  worker$call <- function(request, target, ...) .call_other(worker, request, target, list(...))
  worker$cast <- function(target, ...) .tell(worker$wire, 2L, target, list(...))
  worker$log <- function(level, text, ...) .tell(worker$wire, 2L, "$/log", list(level, text, mlports_map(...)))
  worker$hear <- function() .hear(worker)
  worker$run <- function() .run(worker)
  worker
}

.add <- function(worker, kind, name, f, idempotent, input) {
  if (startsWith(name, "$/")) stop(name, ": names beginning with $/ are the protocol's")
  worker$handlers[[name]] <- list(kind = kind, f = f, idempotent = idempotent, input = input)
  invisible(worker)
}

.call_other <- function(worker, request, target, params) {
  meta <- mlports_map()
  if (!is.null(request$id)) meta$parent <- mlports_integer(request$id)
  if (!is.null(request$traceparent)) meta$traceparent <- request$traceparent
  if (!is.null(request$deadline())) meta$deadline_ms <- max(request$deadline(), 0) * 1000
  id <- worker$next_id
  worker$next_id <- id + 1
  key <- as.character(id)
  worker$calls[[key]] <- FALSE
  if (length(meta) > 0) .tell(worker$wire, 0L, mlports_integer(id), target, params, meta)
  else .tell(worker$wire, 0L, mlports_integer(id), target, params)
  while (identical(worker$calls[[key]], FALSE)) {
    if (worker$ended) stop(mlports_failure("unavailable", paste(target, "was not answered: the orchestrator is gone")))
    worker$hear()
  }
  answer <- worker$calls[[key]]
  rm(list = key, envir = worker$calls)
  error <- answer$error
  if (!is.null(error)) stop(mlports_failure(error$code, error$message, error[["data"]], isTRUE(error[["retryable"]])))
  answer$result
}

# -- what the orchestrator says

.hear <- function(worker) {
  message <- .receive(worker$wire)
  if (is.null(message)) worker$ended <- TRUE
  else if (message$kind == 0) .on_request(worker, message)
  else if (message$kind == 2) .on_notification(worker, message)
  else {
    if (message$id >= worker$next_id) {
      mlports_violation("UnknownId", sprintf("an answer to request %.0f, which was never made", message$id))
    }
    key <- as.character(message$id)
    if (identical(worker$calls[[key]], FALSE)) worker$calls[[key]] <- message
  }
}

.refuse <- function(worker, id, code, text, retryable = FALSE) {
  error <- list(code = code, message = .one_line(text))
  if (retryable) error$retryable <- TRUE
  .tell(worker$wire, 1L, mlports_integer(id), error, NULL)
}

.on_request <- function(worker, message) {
  id <- message$id
  method <- message$method
  if (worker$phase == "new" && method == "$/hello") return(.on_hello(worker, message))
  key <- sprintf("%.0f", id)
  if (!is.null(worker$open[[key]])) mlports_violation("DuplicateId", paste("request id", key, "is still in use"))
  if (worker$phase != "ready" || method == "$/hello") {
    mlports_violation("HandshakeExpected", paste(method, "in phase", worker$phase))
  }
  if (method == "$/ping") return(.tell(worker$wire, 1L, mlports_integer(id), NULL, NULL))
  handler <- worker$handlers[[method, exact = TRUE]]
  if (is.null(handler)) {
    return(.refuse(worker, id, "unimplemented", paste("the worker", worker$name, "has no method", method)))
  }
  if (worker$stopping) return(.refuse(worker, id, "unavailable", "the worker is told to stop", TRUE))
  problem <- .problem_of(handler, message)
  if (!is.null(problem)) return(.refuse(worker, id, "invalid_argument", paste0(method, ": ", problem)))
  worker$open[[key]] <- .request(worker, message)
  worker$queue <- c(worker$queue, list(worker$open[[key]]))
}

.on_hello <- function(worker, message) {
  hello <- .check_hello(message$params)
  worker$wire$max_frame <- worker$wire$peer_max_frame <- hello$max_frame
  worker$phase <- "greeting"
  worker$config <- hello$config
  worker$on_setup(worker$config)
  worker$wire$ndarray <- "ndarray" %in% hello$features
  worker$phase <- "ready"
  methods <- lapply(worker$handlers, function(handler) {
    flags <- list(batch = handler$kind == "batch", stream = handler$kind == "stream", idempotent = handler$idempotent)
    if (handler$input) flags$input <- TRUE
    flags
  })
  .tell(worker$wire, 1L, mlports_integer(message$id), NULL, list(
    protocol = 1L, max_frame = mlports_integer(worker$wire$max_frame), name = worker$name, language = "r",
    sdk = paste("mlports-r", .version), methods = if (length(methods) > 0) methods else mlports_map(),
    features = .features, concurrency = 1L
  ))
}

.on_notification <- function(worker, message) {
  if (worker$phase != "ready") mlports_violation("HandshakeExpected", paste(message$method, "in phase", worker$phase))
  if (startsWith(message$method, "$/")) return(.on_control(worker, message$method, message$params))
  handler <- worker$handlers[[message$method, exact = TRUE]]
  if (is.null(handler) || handler$input) {
    worker$log("warning", paste("a cast to", message$method, "was dropped: it cannot be cast to"))
  } else {
    worker$queue <- c(worker$queue, list(.request(worker, message)))
  }
}

.on_control <- function(worker, method, params) {
  if (method == "$/stop") worker$stopping <- TRUE
  if (!method %in% c("$/cancel", "$/credit", "$/input", "$/input_end")) return(invisible(NULL))
  item <- function(at) if (at <= length(params)) params[[at]] else NULL
  good <- .is_count(item(1), 0) && (method != "$/credit" || .is_count(item(2), 1)) && (method != "$/input" || length(params) > 1)
  if (!good) .invalid(paste("params of", method))
  request <- worker$open[[sprintf("%.0f", as.numeric(unclass(item(1))))]]
  if (is.null(request)) return(invisible(NULL))
  if (method == "$/credit" && !is.null(request$credit)) request$credit <- request$credit + as.numeric(unclass(item(2)))
  if (method == "$/input_end") request$input_ended <- TRUE
  if (method == "$/input") {
    if (request$granted <= 0) mlports_violation("CreditExceeded", "an item of a streamed argument beyond its credit")
    request$granted <- request$granted - 1
    request$items <- c(request$items, list(item(2)))
  }
}

# -- answers

.answer <- function(worker, request) {
  handler <- worker$handlers[[request$method, exact = TRUE]]
  found <- .outcome_of(.results_for(handler, request))
  if (is.null(request$id)) {
    if (!is.null(found[[1]])) worker$log("error", paste0("the cast to ", request$method, " failed: ", found[[1]]$message))
    return(invisible(NULL))
  }
  rm(list = sprintf("%.0f", request$id), envir = worker$open)
  tryCatch(
    .tell(worker$wire, 1L, mlports_integer(request$id), found[[1]], found[[2]]),
    error = function(problem) {
      why <- conditionMessage(problem)
      code <- if (startsWith(why, "too long")) "resource_exhausted" else "internal"
      .refuse(worker, request$id, code, paste("the answer cannot be sent:", why))
    }
  )
}

.results_for <- function(handler, request) {
  left <- request$deadline()
  if (!is.null(left) && (left <= 0 || request$late)) {
    stop(mlports_failure("deadline_exceeded", paste("the deadline of", request$method, "passed before it began")))
  }
  if (is.null(request$meta$batch)) return(.one_result(handler, request, request$params))
  if (handler$kind == "batch") return(lapply(.batch_results(handler, request, request$params), .as_pair))
  lapply(request$params, function(params) .outcome_of(.one_result(handler, request, params)))
}

.one_result <- function(handler, request, params) {
  if (handler$kind == "batch") {
    result <- .batch_results(handler, request, list(params))[[1]]
    if (inherits(result, "condition")) stop(result)
    return(result)
  }
  request$collected <- list()
  result <- do.call(handler$f, c(list(request), params), quote = TRUE)
  if (handler$kind != "stream") return(result)
  if (is.null(request$credit)) request$collected else NULL
}

.batch_results <- function(handler, request, items) {
  single <- all(lengths(items) == 1)
  results <- handler$f(request, if (single) lapply(items, function(item) item[[1]]) else items)
  if (length(results) != length(items)) {
    told <- sprintf("the batch method gave %d results for %d", length(results), length(items))
    stop(mlports_failure("internal", told))
  }
  if (is.list(results)) results else as.list(results)
}

.as_pair <- function(result) {
  if (inherits(result, "condition")) list(.error_map(result), NULL) else list(NULL, result)
}

# -- the loop

.run <- function(worker) {
  options(warn = 1) # warnings are for the log, when they happen
  worker$wire <- .wire_of_this_program()
  status <- tryCatch(
    {
      .work(worker)
      0
    },
    error = function(problem) {
      message(conditionMessage(problem))
      1
    }
  )
  flush(stderr())
  quit(save = "no", status = status, runLast = FALSE)
}

.work <- function(worker) {
  repeat {
    if (length(worker$queue) > 0) {
      request <- worker$queue[[1]]
      worker$queue <- worker$queue[-1]
      .answer(worker, request)
    } else if (worker$stopping || worker$ended) {
      return(invisible(NULL))
    } else {
      .hear(worker)
    }
  }
}

.wire_of_this_program <- function() {
  frames <- strsplit(Sys.getenv("MLPORTS_FRAMES"), ",")[[1]]
  if (length(frames) != 2) {
    message("a worker in R is started by run.sh: sh mlports/run.sh Rscript --vanilla ", "worker.R")
    quit(save = "no", status = 1, runLast = FALSE)
  }
  .wire(file(paste0("/dev/fd/", frames[[1]]), "rb", raw = TRUE), file(paste0("/dev/fd/", frames[[2]]), "wb", raw = TRUE))
}
