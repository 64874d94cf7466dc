import Testing

@testable import TensorFormats

/// Pickles by hand, most of them of the hostile kind.
struct PickleTests {
    private func pickle(_ parts: [UInt8]...) -> [UInt8] { parts.flatMap { $0 } }

    private func code(_ bytes: [UInt8]) -> TensorFileError.Code? {
        do {
            _ = try TensorWalk(try Unpickler.read(bytes))
            return nil
        } catch {
            return error.code
        }
    }

    @Test(
        arguments: [
            (0x69, "INST"), (0x6F, "OBJ"), (0x82, "EXT1"), (0x83, "EXT2"), (0x84, "EXT4"), (0x50, "PERSID"),
            (0x97, "NEXT_BUFFER"), (0x98, "READONLY_BUFFER"), (0xFF, "none"),
        ] as [(UInt8, String)])
    func `opcodes that no checkpoint has are refused`(_ opcode: UInt8, _ name: String) {
        let error = #expect(throws: TensorFileError.self) { try Unpickler.read([0x80, 2, opcode, 0x2E]) }
        #expect(error?.code == .invalidPickle)
        #expect(
            error?.message
                == "The pickle in the file is not one of tensors: the opcode \(opcode), which is refused, "
                + "at byte 2.")
    }

    @Test(arguments: [
        "", ".", "0.", "(.", "t.", "]a.", "Na.", "]Na", "h\u{5}.", "q\u{1}.", "NNs.", "}(Nu.", "NNb.", "X",
        "R.", "]R.",
    ])
    func `a stack that does not add up is refused`(_ text: String) {
        #expect(code(Array(text.utf8)) == .invalidPickle)
    }

    @Test func `numbers and texts of every kind are read`() throws {
        let long: [UInt8] = [0x8A, 2, 0x00, 0xFF, 0x8A, 0, 0x8A, 9] + [UInt8](repeating: 1, count: 9)
        let text = "I01\nI-7\nL12L\nF2.5\nS'ab'\nVc\n"
        let bytes = pickle(
            Array("(".utf8), Array(text.utf8), long,
            [0x4A, 0xFE, 0xFF, 0xFF, 0xFF, 0x4D, 1, 2, 0x47, 0x3F, 0xF0],
            [0, 0, 0, 0, 0, 0, 0x8C, 1, 0x78], Array("t.".utf8))
        let tree = try Unpickler.read(bytes)
        let items = try #require(tree.tuple(tree.root))
        let shown = items.map { item -> String in
            switch tree[item] {
            case .bool(let value): "\(value)"
            case .integer(let value): "\(value)"
            case .bigInteger: "big"
            case .float(let value): "\(value)"
            default: tree.text(item) ?? "?"
            }
        }
        #expect(shown == ["true", "-7", "12", "2.5", "ab", "c", "-256", "0", "big", "-2", "513", "1.0", "x"])
    }

    @Test func `a pickle that comes byte by byte, with others behind it, is the same`() throws {
        let folders = ["pytorch": "before-1.6", "dcp": "torch-2.0.metadata"]
        let files = try folders.flatMap { folder, prefix in
            try Fixtures.files(in: folder).filter { $0.hasPrefix(prefix) }.map { "\(folder)/\($0)" }
        }
        var pickles = 0
        for file in files {
            let bytes = try Fixtures.bytes(file)
            var start = 0
            while start < bytes.count, let whole = try? Unpickler.read(Array(bytes[start...])) {
                var position = start
                let (pickle, length) = try Unpickler.read {
                    position += 1
                    return Array(bytes[position - 1..<min(position, bytes.count)])
                }
                #expect("\(pickle.nodes) \(pickle.objects)" == "\(whole.nodes) \(whole.objects)", "\(file)")
                // No byte behind its end was asked for.
                #expect(position == start + length && pickle.root == whole.root)
                (start, pickles) = (position, pickles + 1)
            }
        }
        #expect(pickles > 5 * 15)
        #expect(throws: TensorFileError.self) { try Unpickler.read { [] } }
    }

    @Test func `a pickle without end is refused before it is all read`() {
        var count = 0
        // Bytes that are dropped again, a MiB at a time.
        let step = [0x42] + little((1 << 20) - 6, 4) + [UInt8](repeating: 0, count: (1 << 20) - 6) + [0x30]
        let error = #expect(throws: TensorFileError.self) {
            try Unpickler.read {
                count += 1
                return step
            }
        }
        #expect(error?.code == .tooLarge && count == 64)
        // One text that claims to be longer than anything may be.
        count = 0
        #expect(throws: TensorFileError.self) {
            try Unpickler.read {
                count += 1
                return [0x58, 0xFF, 0xFF, 0xFF, 0xFF]
            }
        }
        #expect(count == 1)
    }

    @Test func `cycles end`() throws {
        // A list in itself, a dictionary in itself, and an object whose state is itself.
        #expect(code(Array("]q\u{0}h\u{0}a.".utf8)) == nil)
        #expect(code(Array("}q\u{0}Nh\u{0}s.".utf8)) == nil)
        #expect(code(Array("ca\nb\n)Rq\u{0}h\u{0}b.".utf8)) == nil)
    }

    @Test func `tensors wrapped without end, or each time twice, are refused at once`() throws {
        let parameter = Array("ctorch._utils\n_rebuild_parameter\n".utf8)
        func nested(_ count: Int) -> [UInt8] {
            (0..<count).flatMap { _ in parameter } + Array("N".utf8)
                + (0..<count).flatMap { _ in [0x85, 0x52] }
                + Array(".".utf8)
        }
        #expect(code(nested(8)) == nil)
        #expect(code(nested(600)) == .tooLarge)

        // Each level has the one below as its function's only argument and as its state: 2^200 places in all.
        var doubled = Array("Nq\u{0}".utf8)
        for _ in 0..<200 {
            doubled += Array("0ctorch._tensor\n_rebuild_from_type_v2\n(Nh\u{0}h\u{0}".utf8)
            doubled += [0x85] + Array("h\u{0}tRq\u{0}".utf8)
        }
        let clock = ContinuousClock()
        let time = clock.measure { #expect(code(doubled + Array(".".utf8)) == .tooLarge) }
        #expect(time < .seconds(20))
    }

    @Test func `depth, width and names are limited`() throws {
        #expect(
            code([UInt8](repeating: 0x5D, count: 600) + [UInt8](repeating: 0x61, count: 599) + [0x2E])
                == .tooLarge)
        #expect(
            code([UInt8](repeating: 0x5D, count: 400) + [UInt8](repeating: 0x61, count: 399) + [0x2E]) == nil)
        #expect(code([UInt8](repeating: 0x28, count: 1 << 17)) == .tooLarge)
        #expect(code([UInt8](repeating: 0x4E, count: 5 << 20)) == .tooLarge)
        #expect(code([0x4E, 0x72, 0xFF, 0xFF, 0xFF, 0xFF, 0x2E]) == .tooLarge)
        #expect(code([UInt8](repeating: 0x4E, count: (64 << 20) + 1)) == .tooLarge)
        // As many objects in one place as may be.
        var wide = Array("](".utf8) + [UInt8](repeating: 0x5D, count: 1 << 20)
        wide += Array("e.".utf8)
        #expect(code(wide) == nil)
    }

    @Test func `a text longer than the pickle is refused before it is read`() {
        #expect(code([0x58, 0xFF, 0xFF, 0xFF, 0xFF, 0x2E]) == .invalidPickle)
        #expect(code([0x8D] + [UInt8](repeating: 0xFF, count: 8) + [0x2E]) == .invalidPickle)
        #expect(code([0x8B, 0xFF, 0xFF, 0xFF, 0xFF, 0x2E]) == .invalidPickle)
    }

    @Test func `of appends one by one each takes the same time`() throws {
        // Two lists by turns, so that neither grows at the end of what was stored last.
        var bytes = Array("]q\u{0}]q\u{1}00".utf8)
        for _ in 0..<200_000 { bytes += Array("h\u{0}Na0h\u{1}Na0".utf8) }
        let clock = ContinuousClock()
        let time = try clock.measure { _ = try Unpickler.read(bytes + Array("h\u{0}.".utf8)) }
        print("400,000 appends: \(time)")
        #expect(time < .seconds(60))
    }
}
