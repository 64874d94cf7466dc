import Cairn
import Testing

@testable import CairnCLI

struct TableTests {
    private let narrow = Style(width: 80, now: 0)
    private let unlimited = Style(width: nil, now: 0)

    private func tensor(_ name: String, group: String = "model") -> TensorInfo {
        TensorInfo(name: name, dtype: "BF16", shape: [4096, 14_336], bytes: 117_440_512, group: group)
    }

    @Test func `Columns are aligned and nothing trails`() {
        var table = Table([.text("NAME"), .number("SIZE"), .text("NOTE")])
        table.add(["a", "1 B", "x"])
        table.add(["bcdefg", "1.0 MiB", ""])
        #expect(
            table.text(narrow) == """
                NAME       SIZE  NOTE
                a           1 B  x
                bcdefg  1.0 MiB
                """)
    }

    @Test func `A list shows losses first and leaves the timings out`() {
        let metrics: [String: Double] = [
            "epoch": 1, "eval_loss": 2, "eval_runtime": 3, "eval_steps_per_second": 4, "loss": 5,
        ]
        #expect(ListCommand.metrics(metrics) == "eval_loss 2, loss 5, epoch 1")
        #expect(ListCommand.metrics(["eval_runtime": 3]) == "")
    }

    @Test func `A text column without a text is left out`() {
        var table = Table([.number("STEP"), .text("PINS")])
        table.add(["500", ""])
        #expect(table.text(narrow) == "STEP\n 500")
    }

    @Test func `Wide names are shortened in the middle to fit 80 columns`() {
        let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight.and.more"
        let lines = ShowCommand.table([tensor(name), tensor("x")], narrow).split(separator: "\n")
        #expect(lines.allSatisfy { $0.columns <= 80 })
        #expect(lines[1].columns == 80)
        #expect(
            lines[1].hasPrefix("base_model.") && lines[1].contains("…") && lines[1].contains("more  BF16"))
        #expect(lines[1].contains("[4096, 14336]") && lines[1].contains("112.0 MiB"))
    }

    @Test func `Without a terminal names stay whole`() {
        let name = String(repeating: "layer.", count: 40)
        #expect(ShowCommand.table([tensor(name)], unlimited).contains(name))
    }

    @Test(arguments: [40, 60, 80, 132])
    func `Whatever the names, a list fits the terminal`(width: Int) throws {
        let run = String(repeating: "run", count: 40)
        let pins = (0..<20).map { "milestone-\($0)000" }
        var table = Table([.text("RUN", minimum: 8), .number("STEP"), .text("PINS", minimum: 6, .end)])
        table.add([run, "9007199254740991", pins.joined(separator: ", ")])
        table.add(["模型训练检查点模型训练检查点模型训练检查点模型训练检查点", "1", "🎉🎉🎉"])
        let lines = table.text(Style(width: width, now: 0)).split(separator: "\n")
        #expect(lines.count == 3)
        for line in lines { #expect(line.columns <= width) }
    }

    @Test func `Wide characters count twice and marks not at all`() {
        #expect("模型".columns == 4)
        #expect("e\u{301}".columns == 1)
        #expect("模型训练".shortened(to: 5, .end) == "模型…")
        #expect("模型训练".shortened(to: 4, .end).columns <= 4)
        #expect("abcdefgh".shortened(to: 5, .middle) == "ab…gh")
        #expect("abc".shortened(to: 3, .middle) == "abc")
        #expect("abc".shortened(to: 1, .middle) == "…")
        #expect("abc".shortened(to: 0, .end) == "")
    }

    @Test func `Nothing in a name reaches the terminal as a command`() {
        #expect("a\u{1B}[2Jb\n\u{9B}\u{202E}\u{7F}".printable == "a\\u{1b}[2Jb\\n\\u{9b}\\u{202e}\\u{7f}")
        #expect("naïve 模型 …".printable == "naïve 模型 …")
        let table = ShowCommand.table([tensor("evil\u{1B}]0;x\u{7}\nname")], narrow)
        #expect(table.split(separator: "\n").count == 2)
        #expect(!table.unicodeScalars.contains("\u{1B}"))
    }
}
