# Errors with a code, and breaches of the protocol.

# An error with a chosen code of SPEC.md 4.4: stop() with it, or put it in an item's place in a batch. `retryable`
# promises that the request had no effect.
mlports_failure <- function(code, message, data = NULL, retryable = FALSE) {
  structure(
    class = c("mlports_failure", "error", "condition"),
    list(message = message, call = NULL, code = code, data = data, retryable = retryable)
  )
}

# The orchestrator broke the protocol: `name` is that of SPEC.md 13. It ends the worker.
mlports_violation <- function(name, reason) {
  stop(structure(
    class = c("mlports_violation", "error", "condition"),
    list(message = paste0(name, ": ", reason), call = NULL)
  ))
}

.one_line <- function(text) substr(trimws(gsub("[[:space:]]+", " ", text)), 1, 1000)

# The protocol's error map for a condition; `trace` is where it happened.
.error_map <- function(problem, trace = "") {
  if (inherits(problem, "mlports_failure")) {
    map <- list(code = problem$code, message = .one_line(problem$message))
    if (!is.null(problem$data)) map$data <- problem$data
    if (isTRUE(problem$retryable)) map$retryable <- TRUE
    return(map)
  }
  type <- class(problem)[[1]]
  text <- conditionMessage(problem)
  list(
    code = "unknown", message = .one_line(paste0(type, ": ", text)),
    data = list(type = type, traceback = if (nzchar(trace)) trace else text)
  )
}

# What an expression gives, as list(error, result): error is a map, or NULL. Violations are nobody's to catch.
.outcome_of <- function(expression) {
  trace <- ""
  tryCatch(
    withCallingHandlers(
      list(NULL, expression),
      error = function(problem) {
        calls <- vapply(sys.calls(), function(call) substr(deparse(call)[[1]], 1, 100), "")
        trace <<- paste(c(utils::tail(calls, 12), conditionMessage(problem)), collapse = "\n")
      }
    ),
    mlports_violation = function(problem) stop(problem),
    error = function(problem) list(.error_map(problem, trace), NULL)
  )
}
