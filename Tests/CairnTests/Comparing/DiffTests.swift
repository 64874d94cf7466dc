import Cairn
import Foundation
import Testing

@Suite struct DiffTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    private struct Tensor {
        var name: String
        var dtype: String
        var shape: [Int]
        var bytes: [UInt8]
    }

    private func file(_ tensors: [Tensor]) -> [UInt8] {
        var offset = 0
        let entries = tensors.map { tensor in
            defer { offset += tensor.bytes.count }
            return "\"\(tensor.name)\":{\"dtype\":\"\(tensor.dtype)\",\"shape\":\(tensor.shape),"
                + "\"data_offsets\":[\(offset),\(offset + tensor.bytes.count)]}"
        }
        let header = [UInt8]("{\(entries.joined(separator: ","))}".utf8)
        return withUnsafeBytes(of: UInt64(header.count).littleEndian) { [UInt8]($0) } + header
            + tensors.flatMap(\.bytes)
    }

    private func diff(_ before: [Tensor], _ after: [Tensor]) throws -> IterationDiff {
        for (step, tensors) in [(1, before), (2, after)] {
            let folder = try bench.write("checkpoint-\(step)", ["model.safetensors": file(tensors)])
            try bench.store.save(folder, options: SaveOptions(replace: true))
        }
        return try bench.store.diff("1", "2")
    }

    /// The one change of a single tensor from some elements to others.
    private func change<T>(_ dtype: String, _ before: [T], _ after: [T]) throws -> IterationDiff.Change {
        let tensors = [before, after].map { values in
            Tensor(
                name: "w", dtype: dtype, shape: [values.count],
                bytes: values.withUnsafeBytes { [UInt8]($0) })
        }
        let diff = try diff([tensors[0]], [tensors[1]])
        #expect(diff.added.isEmpty && diff.removed.isEmpty && diff.unchanged == 0)
        return try #require(diff.changed.count == 1 ? diff.changed[0] : nil)
    }

    @Test func tensorsThatCameAndWentAndStayed() throws {
        let same = Tensor(name: "same", dtype: "U8", shape: [3], bytes: [1, 2, 3])
        let gone = Tensor(name: "gone", dtype: "U8", shape: [1], bytes: [4])
        let new = Tensor(name: "new", dtype: "U8", shape: [2, 1], bytes: [5, 6])
        let diff = try diff([same, gone], [new, same])
        #expect(diff.added.map(\.name) == ["new"] && diff.added[0].shape == [2, 1])
        #expect(diff.removed.map(\.name) == ["gone"] && diff.changed.isEmpty && diff.unchanged == 1)
        // The other direction is the mirror image.
        let back = try bench.store.diff("2", "1")
        #expect(back.added.map(\.name) == ["gone"] && back.removed.map(\.name) == ["new"])
        let none = try bench.store.diff("2", "2")
        #expect(none.unchanged == 2 && none.added.isEmpty && none.removed.isEmpty && none.changed.isEmpty)
    }

    @Test func floatsOfFourBytes() throws {
        let many = [Float](repeating: 1, count: 3000)
        var other = many
        // One in each of three chunks of 4 KiB; the second differs in one byte alone.
        other[0] = 1.5
        other[1500] = Float(bitPattern: many[1500].bitPattern ^ 1)
        other[2999] = -2
        let change = try change("F32", many, other)
        #expect(change.elements == 3000 && change.changedElements == 3)
        // 1 is 3F800000, 1.5 is 3FC00000 and -2 is C0000000.
        #expect(change.changedBytes == 1 + 1 + 2)
        #expect(change.maxAbsDifference == 3)
    }

    @Test func floatsOfTwoBytes() throws {
        // bfloat16 1, 2 and -0.5; and binary16 1, 2, -0.5, the smallest number, and 65504.
        let brain = try change("BF16", [0x3F80, 0x4000] as [UInt16], [0x3F80, 0xBF00])
        #expect(brain.changedElements == 1 && brain.maxAbsDifference == 2.5)
        let half = try change("F16", [0x3C00, 0x4000, 0] as [UInt16], [0x3C00, 0xB800, 1])
        #expect(half.changedElements == 2 && half.maxAbsDifference == 2.5)
    }

    @Test func theSmallestAndTheLargestHalves() throws {
        #expect(try change("F16", [0] as [UInt16], [1]).maxAbsDifference == 0x1p-24)
        #expect(try change("F16", [0] as [UInt16], [0x03FF]).maxAbsDifference == 1023 * 0x1p-24)
    }

    @Test(arguments: [("F16", 0x7BFF, 65504.0), ("F16", 0x0400, 0x1p-14), ("BF16", 0x7F7F, 0x1.FEp127)])
    func aNumberFromItsBits(dtype: String, bits: Int, value: Double) throws {
        #expect(try change(dtype, [0] as [UInt16], [UInt16(bits)]).maxAbsDifference == value)
    }

    @Test func integersOfEverySize() throws {
        #expect(try change("I8", [-128, 5] as [Int8], [127, 5]).maxAbsDifference == 255)
    }

    @Test func integersOfEightBytes() throws {
        let signed = try change("I64", [.min, 0] as [Int64], [0, 0])
        #expect(signed.maxAbsDifference == 0x1p63 && signed.changedBytes == 1)
    }

    @Test func unsignedIntegersOfEightBytes() throws {
        #expect(try change("U64", [0] as [UInt64], [.max]).maxAbsDifference == 0x1p64)
    }

    @Test func smallerIntegers() throws {
        #expect(try change("U16", [1] as [UInt16], [65535]).maxAbsDifference == 65534)
    }

    @Test func truthValues() throws {
        let change = try change("BOOL", [0, 1, 1] as [UInt8], [1, 1, 0])
        #expect(change.changedElements == 2 && change.changedBytes == 2 && change.maxAbsDifference == 1)
    }

    @Test func whatIsNotANumberHasNoDifferenceButHasChanged() throws {
        let change = try change("F32", [1, .nan, 3] as [Float], [.nan, 2, 3.25])
        #expect(change.changedElements == 3 && change.maxAbsDifference == 0.25)
    }

    @Test func onlyWhatIsNotANumber() throws {
        let change = try change("F64", [1, .nan] as [Double], [.nan, .nan])
        #expect(change.changedElements == 1 && change.maxAbsDifference == nil)
    }

    @Test func infinityIsInfinitelyFar() throws {
        #expect(try change("F64", [1] as [Double], [.infinity]).maxAbsDifference == .infinity)
    }

    @Test func minusZeroIsAnotherElementAndNoDifference() throws {
        let change = try change("F32", [0] as [Float], [-0.0])
        #expect(change.changedElements == 1 && change.changedBytes == 1 && change.maxAbsDifference == 0)
    }

    @Test func anotherDTypeOrShapeIsAllOther() throws {
        let bytes = [UInt8](0..<16)
        let before = Tensor(name: "w", dtype: "F32", shape: [4], bytes: bytes)
        let reshaped = Tensor(name: "w", dtype: "F32", shape: [2, 2], bytes: bytes)
        let diff = try diff([before], [reshaped])
        #expect(diff.unchanged == 0 && diff.changed.count == 1)
        #expect(diff.changed[0].changedElements == 4 && diff.changed[0].changedBytes == 16)
        #expect(diff.changed[0].maxAbsDifference == nil && diff.changed[0].before.shape == [4])
    }

    @Test func namesThatDifferInUnicodeFormAloneAreDifferentTensors() throws {
        let one = Tensor(name: "caf\u{E9}", dtype: "U8", shape: [1], bytes: [1])
        let other = Tensor(name: "cafe\u{301}", dtype: "U8", shape: [1], bytes: [1])
        let diff = try diff([one], [other])
        #expect(diff.added.count == 1 && diff.removed.count == 1 && diff.unchanged == 0)
    }

    @Test func filesBesideTensors() throws {
        for (step, files) in [
            (1, ["a.txt": [1], "b.txt": [2]]), (2, ["b.txt": [3], "c.txt": [1]]),
        ] as [(Int, [String: [UInt8]])] {
            try bench.store.save(try bench.write("checkpoint-\(step)", files))
        }
        let diff = try bench.store.diff("1", "2")
        #expect(
            diff.addedFiles == ["c.txt"] && diff.removedFiles == ["a.txt"] && diff.changedFiles == ["b.txt"])
    }

    @Test func aPartOfAStorageIsComparedWithATensorOfItsOwn() throws {
        let path = GoldenStore.project + "/Tests/TensorFormatsTests/Fixtures/pytorch/overlap.pt"
        let bytes = [UInt8](try #require(FileManager.default.contents(atPath: path)))
        try bench.store.save(try bench.write("checkpoint-1", ["state.pt": bytes]))
        let shown = try bench.store.show("1").tensors
        let zeros = shown.map { tensor in
            Tensor(
                name: tensor.name, dtype: tensor.dtype, shape: tensor.shape.map(Int.init),
                bytes: [UInt8](repeating: 0, count: Int(tensor.bytes)))
        }
        try bench.store.save(try bench.write("checkpoint-2", ["model.safetensors": file(zeros)]))
        let diff = try bench.store.diff("2", "1")
        #expect(diff.added.isEmpty && diff.removed.isEmpty && diff.unchanged == 0)
        #expect(diff.changed.map(\.name) == shown.map(\.name).sorted())
        #expect(diff.changed.allSatisfy { $0.changedElements > 0 && $0.changedElements <= $0.elements })
        #expect(try bench.store.diff("1", "1").changed.isEmpty)
    }
}
