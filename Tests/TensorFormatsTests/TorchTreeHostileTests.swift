import Testing

@testable import TensorFormats

/// Pickles that mean harm, or are in forms that nobody knows.
struct TorchTreeHostileTests {
    private func tree(_ text: String) throws -> TorchTree { try TorchTree(pickle: Array(text.utf8)) }

    private func code(_ bytes: [UInt8]) -> TensorFileError.Code? {
        do {
            _ = try TorchTree(pickle: bytes)
            return nil
        } catch {
            return error.code
        }
    }

    /// What takes longer than this has gone wrong, also without optimisation and beside other tests.
    private func quickly(_ body: () throws -> Void) rethrows {
        let time = try ContinuousClock().measure(body)
        #expect(time < .seconds(20))
    }

    @Test func `values in themselves lead nowhere but to themselves`() throws {
        let list = try tree("]q\u{0}h\u{0}a.").root
        #expect(list.elements?.first?.index == list.index)
        let dictionary = try tree("}q\u{0}Vself\nh\u{0}s.").root
        #expect(dictionary["self"]?["self"]?["self"]?.index == dictionary.index)
        let object = try tree("ca\nb\n)Rq\u{0}h\u{0}b.").root
        #expect(
            object.state?.index == object.index && object.attribute("a") == nil && object.attributes.isEmpty)
        #expect(object.className == "a.b")
        for text in ["]q\u{0}h\u{0}a.", "}q\u{0}Vself\nh\u{0}s.", "ca\nb\n)Rq\u{0}h\u{0}b."] {
            #expect(TreeProbe(try tree(text), limit: 100).values == 100)
        }
    }

    @Test func `what doubles at each level is as small as its pickle`() throws {
        // 2^60 numbers as tuples of tuples, as a value, a key and the arguments of what makes a tensor.
        var text = "I7\n"
        for _ in 0..<60 { text += "p0\ng0\n\u{86}" }
        let bytes = Array(text.unicodeScalars).map { UInt8($0.value) }
        try quickly {
            var value = try TorchTree(pickle: bytes + [0x2E]).root
            for _ in 0..<60 { value = try #require(value.elements?.last) }
            #expect(value.int == 7)
            let keyed = try TorchTree(pickle: Array("}".utf8) + bytes + Array("I1\ns.".utf8)).root
            #expect(keyed.items?.count == 1 && keyed.items?.first?.key.elements?.count == 2)
            let parameter = Array("ctorch._utils\n_rebuild_parameter\n".utf8) + bytes + Array("R.".utf8)
            #expect(try TorchTree(pickle: parameter).root.tensor == nil)
        }
    }

    @Test func `calls around calls without end are objects`() throws {
        func nested(_ function: String, _ count: Int, _ arguments: [UInt8]) -> [UInt8] {
            Array(String(repeating: function, count: count).utf8) + Array("N".utf8)
                + (0..<count).flatMap { _ in arguments } + Array(".".utf8)
        }
        let names = [
            "ctorch._utils\n_rebuild_parameter\n": [0x85, 0x52], "c_codecs\nencode\n": [0x85, 0x52],
            "c__builtin__\nbytearray\n": [0x85, 0x52], "ccollections\nOrderedDict\n": [0x85, 0x52],
            "c__builtin__\nset\n": [0x85, 0x52], "ctorch\nSize\n": [0x85, 0x52],
            "c__builtin__\ngetattr\n": Array("Va\n".utf8) + [0x86, 0x52],
            "ccopy_reg\n_reconstructor\n": Array("NN\u{87}R".unicodeScalars).map { UInt8($0.value) },
        ]
        for (name, arguments) in names {
            try quickly {
                let tree = try TorchTree(pickle: nested(name, 50_000, arguments))
                #expect(tree.root.tensor == nil && tree.root.string == nil && tree.root.dimensions == nil)
                _ = TreeProbe(tree)
            }
        }
        #expect(code(Array(String(repeating: "ca\nb\n0", count: (1 << 20) + 1).utf8)) == .tooLarge)
    }

    @Test func `absurd lengths and numbers are refused before anything is made of them`() {
        let long = [UInt8](repeating: 0xFF, count: 8)
        for opcode: UInt8 in [0x8D, 0x8E, 0x96] { #expect(code([opcode] + long + [0x2E]) == .invalidPickle) }
        for opcode: UInt8 in [0x42, 0x58, 0x54, 0x8B] {
            #expect(code([opcode, 0xFF, 0xFF, 0xFF, 0xFF, 0x2E]) == .invalidPickle)
        }
        // A frame's length says nothing that is needed.
        #expect(code([0x80, 4, 0x95] + long + Array("N.".utf8)) == nil)
        #expect(code(Array("Np99999999999999999999\n.".utf8)) == .invalidPickle)
        #expect(code(Array("Np4294967295\n.".utf8)) == .tooLarge)
        #expect(code([0x80, 6, 0x4E, 0x2E]) == .invalidPickle)
        #expect(code(Array("S'a\n.".utf8)) == .invalidPickle && code(Array("S\n.".utf8)) == .invalidPickle)
        #expect(code(Array("I1_000\n.".utf8)) == nil)
        for opcode: UInt8 in [0x69, 0x6F, 0x82, 0x83, 0x84, 0x50, 0x97, 0x98] {
            #expect(code([0x80, 2, opcode, 0x2E]) == .invalidPickle)
        }
    }

    @Test func `shared lists that many objects lean on are not read for each`() throws {
        // 100,000 meshes with one list of 100,000 ranks, distributed tensors with one such list of placements,
        // and tensors with one such shape.
        let wide = Array("(".utf8) + [UInt8](repeating: 0x4E, count: 100_000) + Array("lp1\n0".utf8)
        let names = ["_flatten_mesh_list", "_spec", "placements", "mesh"]
        var bytes = wide + Array("(".utf8)
        for name in names { bytes += Array("V\(name)\ng1\n".utf8) }
        bytes += Array("dp2\n0ctorch.distributed.device_mesh\nDeviceMesh\np3\n0".utf8)
        bytes += Array("ctorch._utils\n_rebuild_tensor_v2\np4\n0(g1\ng1\ng1\ng1\ntp5\n0(".utf8)
        for _ in 0..<20_000 { bytes += Array("g3\n)Rg2\nbg4\ng5\nR".utf8) }
        try quickly {
            let tree = try TorchTree(pickle: bytes + Array("l.".utf8))
            let failed = try #require(tree.source.meshes.values.first)
            #expect(throws: TensorFileError.self) { try failed.get() }
            #expect(tree.root.elements?.count == 40_000)
            for value in try #require(tree.root.elements) {
                #expect(value.tensor == nil && value.dimensions == nil)
            }
        }
    }

    // MARK: Unknown forms

    private static let original = try! {
        let file = try Fixtures.bytes("trees/distributed-2.13.0.pt")
        let archive = try ZipArchive(size: UInt64(file.count)) {
            Array(file[Int($0.lowerBound)..<Int($0.upperBound)])
        }
        let data = archive.records[0].data
        return Array(file[Int(data.lowerBound)..<Int(data.upperBound)])
    }()

    @Test func `the pickle of a file tells of distributed tensors as well`() throws {
        let tensor = try #require(try TorchTree(pickle: Self.original).root["whole"]?.distributedTensor())
        #expect(tensor.placements == [.replicate, .shard(0), .partial("sum")] && tensor.mesh.rank == 5)
        #expect(tensor.local.name == nil && tensor.local.problem != nil)
    }

    @Test(arguments: [
        ("placement_types\nReplicate\n", "placement_types\nDuplicate\n", "placement"),
        ("placement_types\nShard\n", "placement_types\nShark\n", "placement"),
        ("_mesh_layout\n_MeshLayout\n", "_mesh_layout\n_MashLayout\n", "layout"),
        ("_mesh_layout\n_FlatLayout\n", "_mesh_layout\n_FlitLayout\n", "layout"),
        ("device_mesh\nDeviceMesh\n", "device_mesh\nDeviceMash\n", "mesh"),
        ("_flatten_rank_map", "_flattem_rank_map", "ranks"), ("placements", "placemants", "specification"),
        ("_local_tensor", "_lokal_tensor", "local"), ("_spec", "_spek", "specification"),
        ("reduce_op", "reduce_on", "placement"),
        ("torch.distributed.tensor\n", "torch.distributed.tansor\n", "class"),
    ])
    func `a distributed tensor in another form is refused by name`(
        _ old: String, _ new: String, _ what: String
    ) throws {
        let root = try TorchTree(pickle: replacing(Array(old.utf8), by: Array(new.utf8))).root
        var refused = 0
        for (_, value) in try #require(root.items) {
            do {
                _ = try value.distributedTensor()
            } catch {
                refused += 1
                #expect(error.code == .unsupported && error.message.contains(what), "\(error.message)")
            }
        }
        #expect(refused > 0)
    }

    @Test func `a dimension that is not there, another order, and strides of no use are refused`() throws {
        // In `twice`, the first and the third axis cut dimension 1: (1, (0, 2)).
        let order = replacing([0x4B, 0, 0x4B, 2, 0x86], by: [0x4B, 2, 0x4B, 0, 0x86])
        try expectRefusal("twice", in: order, "another order than the mesh's")
        // The strides are those of `dp` and `tp` in `strided`.
        let whole = try TorchTree(pickle: Self.original).root
        #expect(
            try whole["strided"]?.distributedTensor()?.placements.first == .stridedShard(0, splitFactor: 2))
        let name = Array("split_factor".utf8)
        let place = try #require(Self.original.firstRange(of: name)?.upperBound)
        var useless = Self.original
        let value = try #require(useless[place...].firstIndex(of: 0x4B))
        useless[value + 1] = 0
        try expectRefusal("strided", in: useless, "unknown form")
        // An axis of more processes than there are.
        let flat = Array("_FlatLayout\n".utf8)
        let layout = try #require(Self.original.firstRange(of: flat)?.upperBound)
        var vast = Self.original
        let length = try #require(vast[layout...].firstRange(of: [0x4B, 2] as [UInt8])?.lowerBound)
        vast[length + 1] = 200
        try expectRefusal("whole", in: vast, "ranks")
    }

    private func expectRefusal(_ name: String, in pickle: [UInt8], _ what: String) throws {
        let value = try #require(try TorchTree(pickle: pickle).root[name])
        let error = #expect(throws: TensorFileError.self) { try value.distributedTensor() }
        #expect(
            error?.code == .unsupported && error?.message.contains(what) == true, "\(error?.message ?? "")")
    }

    private func replacing(_ old: [UInt8], by new: [UInt8]) -> [UInt8] {
        var bytes = Self.original
        while let range = bytes.firstRange(of: old) { bytes.replaceSubrange(range, with: new) }
        #expect(bytes != Self.original && old.count == new.count)
        return bytes
    }

    @Test func `a sharded tensor whose shard does not lie in it is refused`() throws {
        let file = try Fixtures.bytes("trees/sharded-2.13.0.pt")
        let archive = try ZipArchive(size: UInt64(file.count)) {
            Array(file[Int($0.lowerBound)..<Int($0.upperBound)])
        }
        let data = archive.records[0].data
        let pickle = Array(file[Int(data.lowerBound)..<Int(data.upperBound)])
        for (old, new) in [
            ("shard_offsets", "shard_offsats"), ("metadata", "metadota"), ("tensor", "tensar"),
        ] {
            var bytes = pickle
            let name = [UInt8(old.utf8.count), 0, 0, 0] + Array(old.utf8)
            while let range = bytes.firstRange(of: name) {
                bytes.replaceSubrange(range, with: name.prefix(4) + Array(new.utf8))
            }
            let value = try #require(try TorchTree(pickle: bytes).root["weight"])
            let error = #expect(throws: TensorFileError.self) { try value.shardedTensor() }
            #expect(error?.code == .unsupported)
        }
        // From row 15 on there are no two rows in 16.
        var beyond = pickle
        let place = try #require(beyond.firstRange(of: [0x4B, 10, 0x4B, 0] as [UInt8])?.lowerBound)
        beyond[place + 1] = 15
        let value = try #require(try TorchTree(pickle: beyond).root["weight"])
        let error = #expect(throws: TensorFileError.self) { try value.shardedTensor() }
        #expect(error?.message.contains("does not lie in its tensor") == true)
    }
}
