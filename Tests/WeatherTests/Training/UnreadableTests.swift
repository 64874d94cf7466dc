import Foundation
import Testing

extension Weather {
    /// `cairn resume` where the folder's checkpoint can't be read.
    @Suite struct UnreadableTests {
        private func faults(_ kind: String, _ number: Int, _ training: Training, _ name: String) -> Faults {
            Faults(kind: kind, number: number, calls: .reading, under: [training.path(name)])
        }

        private static let files = ["model.safetensors", "config.json", "trainer_state.json"]

        @Test(
            "A file that the disk fails to give is named, and comes back from the store, or is read after all",
            arguments: files)
        func comesBack(_ file: String) throws {
            let training = try Training()
            try training.write(2)
            try training.cairn(["resume", training.out]).mustSucceed()
            var said = 0
            for (kind, number) in [("eio", 1), ("eio", 2), ("eio", 3), ("eacces", 4)] {
                let faults = faults(kind, number, training, "checkpoint-2/" + file)
                let ending = try training.cairn(["resume", training.out, "--json"], faults: faults)
                try ending.mustSucceed("\(kind):\(number)")
                let json = try #require(try ending.json() as? [String: Any])
                #expect(json["path"] as? String == training.path("checkpoint-2"))
                for one in try #require(json["setAside"] as? [[String: Any]]) {
                    let reasons = try #require(one["reasons"] as? [String])
                    #expect(reasons.allSatisfy { $0.contains(training.path("checkpoint-2/" + file)) })
                    said += 1
                }
                for file in Training.files(2, content: 2) {
                    let found = FileManager.default.contents(
                        atPath: training.path("checkpoint-2/\(file.name)"))
                    #expect(found == Data(file.bytes), "\(kind):\(number): \(file.name)")
                }
            }
            #expect(said > 0)
            try training.checkHas(2, content: 2)
        }

        @Test("What can't be read, and the store has not got, is never stepped back from", arguments: files)
        func isNeverLeftBehind(_ file: String) throws {
            for steps in [[], [1]] {
                let training = try Training()
                for step in steps { try training.write(step) }
                if !steps.isEmpty { try training.cairn(["resume", training.out]).mustSucceed() }
                try training.write(2)
                for kind in ["eio+", "eacces+"] {
                    try training.cairn(
                        ["resume", training.out], faults: faults(kind, 1, training, "checkpoint-2/" + file)
                    ).mustFail(1, mentioning: training.path("checkpoint-2/" + file))
                    #expect(try training.names() == (steps + [2]).map { "checkpoint-\($0)" })
                    #expect(try training.steps() == steps)
                }
                let ending = try training.cairn(["resume", training.out])
                #expect(ending.output == training.path("checkpoint-2") + "\n")
            }
        }
    }
}
