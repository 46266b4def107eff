// Reads lines `MAX_FRAME PIECE,PIECE,…` (pieces in hex, as reads are to give them) and writes for each, in hex, the
// frames of the messages in that stream as this SDK encodes them, and the name of the fault that ended it.
#include <iostream>
#include <mlports.hpp>
#include <sstream>
#include <sys/socket.h>
#include <thread>

using namespace mlports::detail;

// Each piece is one packet, and so one read.
static void write_pieces(int descriptor, const std::string &pieces) {
    std::istringstream all(pieces);
    for (std::string piece; std::getline(all, piece, ',');) {
        std::string bytes;
        for (std::size_t i = 0; i < piece.size(); i += 2) bytes += static_cast<char>(std::stoi(piece.substr(i, 2), nullptr, 16));
        if (send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) break;
    }
    close(descriptor);
}

static void print_message(const Message &message) {
    mlports::Buffer body;
    mlports::Packer packer(body);
    const bool meta = message.meta.type == msgpack::type::MAP && message.meta.via.map.size > 0;
    packer.pack_array((message.kind == Kind::notification ? 3 : 4) + meta).pack(static_cast<int>(message.kind));
    if (message.kind != Kind::notification) packer.pack(message.id);
    if (message.kind == Kind::response) packer.pack(message.error ? *message.error : msgpack::object()).pack(*message.result);
    else packer.pack(message.method).pack(message.params);
    if (meta) packer.pack(message.meta);
    std::printf("%08zx", body.size());
    for (const char byte : body.view()) std::printf("%02x", static_cast<unsigned char>(byte));
    std::printf(" ");
}

static std::string read_stream(FrameReader &reader) {
    try {
        do {
            while (const auto frame = reader.next([] {})) print_message(parse_message(frame->value));
        } while (reader.read_more());
    } catch (const Violation &fault) {
        return fault.name;
    }
    return "";
}

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) return 1;
        const auto space = line.find(' ');
        FrameReader reader(pair[0]);
        reader.max_frame = static_cast<std::uint32_t>(std::stoul(line.substr(0, space)));
        reader.arrays = true;
        std::thread writer(write_pieces, pair[1], line.substr(space + 1));
        const auto fault = read_stream(reader);
        close(pair[0]);
        writer.join();
        std::printf("%s\n", fault.c_str());
    }
}
