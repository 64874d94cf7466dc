import Foundation
import Glibc

/// A small checkpoint folder that a number determines: what is written, saved, restored and compared.
struct Checkpoint: Sendable, Hashable {
    enum Node: Sendable, Hashable {
        case file([UInt8], mode: UInt16)
        case folder
        case link(String)
    }

    /// By path below the checkpoint's folder.
    var nodes: [[UInt8]: Node]

    /// Checkpoints of neighbouring steps share half of their bytes.
    init(run: Int, step: Int) {
        var own = SeededGenerator(UInt64(run) << 32 | UInt64(step))
        var shared = SeededGenerator(UInt64(run) << 32 | 0xFFFF_FFFF)
        var settings = SeededGenerator(7)
        nodes = [
            Array("config.json".utf8): .file([UInt8]("{\"step\": \(step)}\n".utf8), mode: 0o644),
            Array("model.safetensors".utf8): .file(
                Self.safetensors(changing: own.bytes(24 << 10), same: shared.bytes(40 << 10)), mode: 0o600),
            Array("optimizer.bin".utf8): .file(own.bytes(30_001), mode: 0o640),
            Array("extra/tokenizer.bin".utf8): .file(settings.bytes(9_000), mode: 0o444),
            Array("extra".utf8): .folder,
            Array("empty".utf8): .folder,
            Array("nothing".utf8): .file([], mode: 0o644),
            Array("last".utf8): .link("model.safetensors"),
        ]
    }

    /// A valid file with two tensors.
    private static func safetensors(changing: [UInt8], same: [UInt8]) -> [UInt8] {
        var header = """
            {"a.weight":{"dtype":"BF16","shape":[\(changing.count / 2)],"data_offsets":[0,\(changing.count)]},\
            "b.weight":{"dtype":"F32","shape":[\(same.count / 4)],\
            "data_offsets":[\(changing.count),\(changing.count + same.count)]}}
            """
        while !header.utf8.count.isMultiple(of: 8) { header += " " }
        return withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { [UInt8]($0) }
            + [UInt8](header.utf8)
            + changing + same
    }

    func write(to folder: String) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for (path, node) in nodes.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            try withPath(folder, path) { name in
                switch node {
                case .folder:
                    if mkdir(name, 0o755) != 0, errno != EEXIST { throw Trouble("cannot make a folder") }
                case .link(let target): if symlink(target, name) != 0 { throw Trouble("cannot make a link") }
                case .file(let bytes, let mode):
                    let file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
                    guard file >= 0 else { throw Trouble("cannot make \(String(cString: name))") }
                    defer { close(file) }
                    guard Glibc.write(file, bytes, bytes.count) == bytes.count,
                        fchmod(file, mode_t(mode)) == 0
                    else {
                        throw Trouble("cannot write \(String(cString: name))")
                    }
                }
            }
        }
    }

    /// What lies in a folder.
    static func read(_ folder: String) throws -> Checkpoint {
        var result = Checkpoint(run: 0, step: 0)
        result.nodes = [:]
        try result.read([UInt8](folder.utf8), [])
        return result
    }

    private mutating func read(_ folder: [UInt8], _ relative: [UInt8]) throws {
        for name in try Self.names(in: folder) {
            let path = relative.isEmpty ? name : relative + [UInt8(ascii: "/")] + name
            let full = folder + [UInt8(ascii: "/")] + name
            var status = stat()
            try (full + [0]).withUnsafeBytes { bytes in
                let name = bytes.bindMemory(to: CChar.self).baseAddress!
                guard lstat(name, &status) == 0 else {
                    throw Trouble("cannot look at \(String(cString: name))")
                }
                switch status.st_mode & S_IFMT {
                case S_IFDIR: nodes[path] = .folder
                case S_IFLNK:
                    var target = [UInt8](repeating: 0, count: 4096)
                    let count = target.withUnsafeMutableBytes {
                        readlink(name, $0.bindMemory(to: CChar.self).baseAddress!, 4096)
                    }
                    nodes[path] = .link(String(decoding: target.prefix(max(0, count)), as: UTF8.self))
                default:
                    nodes[path] = .file(try Self.contents(name), mode: UInt16(status.st_mode & 0o7777))
                }
            }
            if nodes[path] == .folder { try read(full, path) }
        }
    }

    private static func names(in folder: [UInt8]) throws -> [[UInt8]] {
        let stream = (folder + [0]).withUnsafeBytes { opendir($0.bindMemory(to: CChar.self).baseAddress!) }
        guard let stream else { throw Trouble("cannot list \(String(decoding: folder, as: UTF8.self))") }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { [UInt8]($0.prefix { $0 != 0 }) }
            if name != [0x2E], name != [0x2E, 0x2E] { names.append(name) }
        }
        return names
    }

    private static func contents(_ path: UnsafePointer<CChar>) throws -> [UInt8] {
        let file = open(path, O_RDONLY)
        guard file >= 0 else { throw Trouble("cannot open \(String(cString: path))") }
        defer { close(file) }
        var status = stat()
        fstat(file, &status)
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        guard Glibc.read(file, &bytes, bytes.count) == bytes.count else { throw Trouble("cannot read all") }
        return bytes
    }

    /// How another one differs, or nil.
    func difference(from other: Checkpoint) -> String? {
        for path in Set(nodes.keys).union(other.nodes.keys).sorted(by: { $0.lexicographicallyPrecedes($1) })
        where nodes[path] != other.nodes[path] {
            let name = String(decoding: path, as: UTF8.self)
            switch (nodes[path], other.nodes[path]) {
            case (nil, _): return "\(name) should not be there"
            case (_, nil): return "\(name) is missing"
            case (.file(_, let one), .file(_, let two)) where one != two:
                return "\(name) has mode \(String(two, radix: 8)), not \(String(one, radix: 8))"
            default: return "\(name) has other content"
            }
        }
        return nil
    }
}

private func withPath(_ folder: String, _ path: [UInt8], _ body: (UnsafePointer<CChar>) throws -> Void) throws
{
    let bytes = [UInt8](folder.utf8) + [UInt8(ascii: "/")] + path + [0]
    try bytes.withUnsafeBytes { try body($0.bindMemory(to: CChar.self).baseAddress!) }
}
