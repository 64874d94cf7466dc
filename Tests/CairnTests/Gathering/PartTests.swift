import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Tensors whose parts have to be put together first, as those of tensor parallelism's ranks that ZeRO divides further.
@Suite struct PartTests {
    typealias Stored = GatherBench.Stored

    /// Of two ranks each what it has of a tensor, in two rows of which the second begins anywhere.
    @Test func whatRanksHaveIsPutTogetherBeforeItIsJoined() throws {
        let whole = (0..<48).map { UInt8($0) }
        func columns(_ range: Range<Int>) -> [UInt8] {
            (0..<8).flatMap { row in range.map { whole[row * 6 + $0] } }
        }
        let (left, right) = (
            columns(0..<4), columns(4..<6)
        )
        let bench = try GatherBench([
            "0.safetensors": [Stored(name: "r", shape: [13], bytes: Array(left[..<13]))],
            "1.safetensors": [Stored(name: "r", shape: [19], bytes: Array(left[13...]))],
            "2.safetensors": [
                Stored(name: "r", shape: [16], bytes: right),
                Stored(name: "other", shape: [16], bytes: right.reversed()),
            ],
        ])
        func part(
            _ shape: [UInt64], _ pieces: [Assembly.Piece], at offset: [UInt64],
            _ region: [Range<UInt64>]? = nil
        )
            -> Assembly.Part
        {
            .init(
                tensor: Assembly.Tensor(name: "model.w", dtype: "U8", shape: shape, pieces: pieces),
                boxes: [.init(region: region ?? shape.map { 0..<$0 }, offset: offset)])
        }
        let rows: [Assembly.Piece] = [
            .run("0.safetensors", "r", 0..<13), .run("1.safetensors", "r", 13..<32),
        ]
        let first = part([8, 4], rows, at: [0, 0])
        let second = part([8, 2], [.run("2.safetensors", "r", 0..<16)], at: [0, 4])
        var joined = Assembly.Tensor(name: "model.w", dtype: "U8", shape: [8, 6], pieces: [])
        joined.parts = [first, second]
        #expect(try bench.bytes([joined]) == whole)
        // Only some rows of each, and another shape.
        joined.shape = [3, 6]
        joined.parts[0].boxes[0].region[0] = 2..<5
        joined.parts[1].boxes[0].region[0] = 2..<5
        (joined.partShape, joined.shape) = ([3, 6], [2, 9])
        #expect(try bench.bytes([joined]) == Array(whole[12..<30]))
        joined.shape = [2, 8]
        #expect(bench.failure(joined)?.hasSuffix("[3, 6] has other elements than [2, 8]") == true)
        let faults: [([Assembly.Part], String)] = [
            (
                [first],
                "no file holds its elements [0:8, 4:6]; its pieces are in 0.safetensors, 1.safetensors"
            ),
            (
                [first, part([8, 2], [], at: [0, 4])],
                "no file holds its elements [0:8, 0:2]; it has no pieces"
            ),
            (
                [first, second, part([8, 2], [.run("2.safetensors", "other", 0..<16)], at: [0, 4])],
                "2.safetensors and 2.safetensors have different bytes for its elements [0:8, 4:6]"
            ),
            (
                [first, part([8, 2], [.run("2.safetensors", "r", 0..<16)], at: [0, 5])],
                "a rank's [8, 2] from [0, 5] on is beyond [8, 6]"
            ),
            (
                [first, part([8, 2], [.run("2.safetensors", "r", 0..<16)], at: [.max, 4])],
                "a rank's [8, 2] from [18446744073709551615, 4] on is beyond [8, 6]"
            ),
            (
                [first, part([8, 2], [.run("2.safetensors", "r", 0..<16)], at: [0, 4], [0..<8, 0..<3])],
                "a rank's [8, 2] from [0, 4] on is beyond [8, 6]"
            ),
            (
                [first, part([16], [.run("2.safetensors", "r", 0..<16)], at: [0])],
                "a rank's [16] has another number of axes than [8, 6]"
            ),
        ]
        for (parts, why) in faults {
            var joined = Assembly.Tensor(name: "model.w", dtype: "U8", shape: [8, 6], pieces: [])
            joined.parts = parts
            #expect(bench.failure(joined) == "the tensor model.w can't be put together: \(why)")
        }
    }
}
