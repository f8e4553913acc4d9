-- Pictures of what was learnt: viz.curves, viz.filters, viz.confusion.

return require "moonlet.lazy"("moonlet.viz")
