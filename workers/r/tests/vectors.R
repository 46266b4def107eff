# The golden vectors of the protocol, as far as they are about bytes and values: lines of vectors_as_lines.py.
source("mlports/mlports.R")

bytes_of <- function(hex) {
  if (hex == "-") return(raw())
  as.raw(strtoi(substring(hex, seq(1, nchar(hex), 2), seq(2, nchar(hex), 2)), 16L))
}

# What was received, written again. A response's meta is dropped.
again <- function(message) {
  if (message$kind == 1) return(mlports_encode(list(1L, mlports_integer(message$id), message$error, message$result), TRUE))
  first <- if (message$kind == 0) list(0L, mlports_integer(message$id)) else list(2L)
  meta <- if (length(message$meta) > 0) list(message$meta) else list()
  mlports_encode(c(first, list(message$method, message$params), meta), TRUE)
}

decoded <- function(stream, max_frame) {
  input <- rawConnection(stream)
  on.exit(close(input))
  wire <- .wire(input, NULL)
  wire$ndarray <- TRUE
  wire$max_frame <- max_frame
  found <- character()
  fault <- tryCatch(
    repeat {
      message <- .receive(wire)
      if (is.null(message)) break
      found <- c(found, paste(again(message), collapse = ""))
    },
    mlports_violation = function(problem) sub(":.*", "", conditionMessage(problem))
  )
  list(found = found, fault = if (is.null(fault)) "-" else fault)
}

failed <- 0
checked <- 0
input <- file("stdin")
lines <- readLines(input)
close(input)
for (line in lines) {
  field <- strsplit(line, " ")[[1]]
  got <- decoded(bytes_of(field[[5]]), as.numeric(field[[4]]))
  if (got$fault == "TruncatedFrame" && field[[3]] != "end") got$fault <- "-" # more may come
  told <- paste(got$found, collapse = ",")
  if (told == "") told <- "-"
  checked <- checked + 1
  if (got$fault != field[[2]] || told != field[[6]]) {
    failed <- failed + 1
    cat(field[[1]], "\n  got    ", got$fault, told, "\n  wanted ", field[[2]], field[[6]], "\n")
  }
}
cat(checked, "vectors,", failed, "failed\n")
quit(status = if (failed == 0 && checked > 200) 0 else 1)
