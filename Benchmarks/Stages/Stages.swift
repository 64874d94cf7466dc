import ChunkStore
import Glibc
import Platform

/// Measures a stage of a save or a restore, or what it is measured beside. Benchmarks/stages.py runs it and asks.
///
/// usage: CairnStages FOLDER CHUNKS [EARLIER CURRENT]
///   FOLDER            for what is written
///   CHUNKS            that the store has into which is committed
///   EARLIER CURRENT   files of 32-bit floats, consecutive states of a training; made up where they are not given
///
/// Each line of standard input asks for one measurement: `STAGE THREADS AMOUNT`, the amount being seconds, or bytes for `write`, or
/// chunks for `index`. Each is answered with a line: units a second, or `error: ` and what went wrong.
@main struct Stages {
    typealias Measurement = (_ threads: Int, _ amount: Double) throws -> Double

    static func main() throws {
        let arguments = CommandLine.arguments
        guard [3, 5].contains(arguments.count), let chunks = Int(arguments[2]) else {
            throw CairnError(.usage, "usage: CairnStages FOLDER CHUNKS [EARLIER CURRENT]")
        }
        let stages = try Stages(
            folder: Path(arguments[1]), chunks: chunks,
            samples: arguments.count == 5
                ? Samples((Path(arguments[3]), Path(arguments[4]))) : Samples(synthetic: 192))
        while let line = readLine() {
            do { print(try stages.measure(line)) } catch { print("error: \(error)") }
            fflush(nil)
        }
    }

    private var measurements: [String: Measurement] = [:]

    private func measure(_ line: String) throws -> Double {
        let words = line.split(separator: " ").map(String.init)
        guard words.count == 3, let measurement = measurements[words[0]], let threads = Int(words[1]),
            let amount = Double(words[2]), threads > 0, amount > 0
        else { throw CairnError(.usage, "can't measure `\(line)`") }
        return try measurement(threads, amount)
    }

    private init(folder: Path, chunks: Int, samples: Samples) throws {
        add("sha256") { Hashing() }
        add("fingerprint") { Fingerprinting() }
        addSplitting(samples)
        try addCoding(samples)
        measurements["write"] = { threads, size in
            try size / Writing.pack(in: folder, size: Int(size), threads: threads)
        }
        measurements["write-limit"] = { _, size in try size / Writing.file(in: folder, size: Int(size)) }
        let committing = Lazy { try Committing(in: folder, chunks: chunks) }
        measurements["index"] = { _, count in try count / committing.value.commit(Int(count)) }
        measurements["index-limit"] = { _, count in try count / committing.value.commitBare(Int(count)) }
    }

    private mutating func add(_ name: String, _ make: @escaping @Sendable () throws -> any Work) {
        measurements[name] = { try Meter.rate(threads: $0, seconds: $1, make) }
    }

    private mutating func addSplitting(_ samples: Samples) {
        for (name, isDelta) in [("planes", false), ("delta", true)] {
            for (suffix, size) in [("", Samples.chunkSize), ("-memory", Splitting.largeSize)] {
                for (what, kind) in [
                    ("split", Splitting.Kind.split), ("merge", .merge), ("copy", .copy),
                ] {
                    add("\(name)-\(what)\(suffix)") {
                        try Splitting(kind, isDelta: isDelta, size: size, samples)
                    }
                }
            }
        }
    }

    private mutating func addCoding(_ samples: Samples) throws {
        let planes = try EncodedSample.all(samples, isDelta: false)
        let deltas = try EncodedSample.all(samples, isDelta: true)
        let compressed = (planes + deltas).flatMap(\.compressed)
        guard !compressed.isEmpty else { throw CairnError(.usage, "nothing in the samples shrinks") }
        let bytes = compressed.map(\.plane)
        for (name, search) in [("symbols", ZstdCompressor.Search.symbols), ("matches", .matches)] {
            add("zstd-\(name)") { try Compressing(bytes, search) }
            add("zstd-\(name)-limit") { try BareCompressing(bytes, search) }
        }
        add("zstd-decode") { try Decompressing(compressed, isBare: false) }
        add("zstd-decode-limit") { try Decompressing(compressed, isBare: true) }
        for (name, isDelta, encoded) in [("planes", false, planes), ("delta", true, deltas)] {
            add("encode-\(name)") { try Encoding(samples, isDelta: isDelta, encoded) }
            add("encode-\(name)-limit") { try BareEncoding(samples, isDelta: isDelta, encoded) }
            add("decode-\(name)") { try Decoding(samples, isDelta: isDelta, encoded) }
            add("decode-\(name)-limit") { try BareDecoding(samples, isDelta: isDelta, encoded) }
        }
    }
}

/// Made when it is first asked for.
final class Lazy<Value> {
    private let make: () throws -> Value
    private var made: Value?

    init(_ make: @escaping () throws -> Value) { self.make = make }

    var value: Value {
        get throws {
            if let made { return made }
            let value = try make()
            made = value
            return value
        }
    }
}
